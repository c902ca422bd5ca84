import { createRoute } from "@hono/zod-openapi";
import { hostPoolSchema } from "../../contracts/api/hosts.ts";
import { pageOf, pageQuery } from "../../contracts/common/primitives.ts";
import { listHostPools } from "../../control/hosts/list-host-pools.ts";
import { fleetReadersOnly } from "../http/fleet-readers-only.ts";
import { commonProblems, jsonResponse, type OperationHandler } from "../http/operation.ts";
import { fleetReaders } from "../http/security.ts";

export const listHostPoolsRoute = createRoute({
  method: "get",
  path: "/v1/host-pools",
  operationId: "listHostPools",
  tags: ["hosts"],
  summary: "List host pools",
  security: fleetReaders,
  request: { query: pageQuery },
  responses: {
    200: jsonResponse(pageOf(hostPoolSchema), "One page of pools, by name."),
    ...commonProblems,
  },
});

export const listHostPoolsHandler: OperationHandler<typeof listHostPoolsRoute> =
  (ctx) => async (c) => {
    fleetReadersOnly(c);
    return c.json(await listHostPools(ctx, c.req.valid("query")), 200);
  };
