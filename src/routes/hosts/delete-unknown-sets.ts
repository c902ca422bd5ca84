import { createRoute } from "@hono/zod-openapi";
import { hostSchema } from "../../contracts/api/hosts.ts";
import { deleteUnknownSets } from "../../control/hosts/delete-unknown-sets.ts";
import { commonProblems, jsonResponse, type OperationHandler } from "../http/operation.ts";
import { hostParameters } from "../http/parameters.ts";
import { operators } from "../http/security.ts";

export const deleteUnknownSetsRoute = createRoute({
  method: "delete",
  path: "/v1/hosts/{hostId}/unknown-sets",
  operationId: "deleteUnknownSets",
  tags: ["hosts"],
  summary: "Delete the sets of a host that the database does not know",
  description:
    "A restore or a failover of the database can lose sets, whose containers continue to run. This orders the deletion of those in `unknownSets`. Their volumes go to the trash of the host. The agent removes them within a minute.",
  security: operators,
  request: { params: hostParameters },
  responses: { 202: jsonResponse(hostSchema, "The host."), ...commonProblems },
});

export const deleteUnknownSetsHandler: OperationHandler<typeof deleteUnknownSetsRoute> =
  (ctx) => async (c) =>
    c.json(await deleteUnknownSets(ctx, c.req.valid("param").hostId), 202);
