import { createRoute } from "@hono/zod-openapi";
import { adoptVolumesBody, hostSchema } from "../../contracts/api/hosts.ts";
import { adoptVolumes } from "../../control/hosts/adopt-volumes.ts";
import {
  commonProblems,
  idempotentHeaders,
  jsonBody,
  jsonResponse,
  type OperationHandler,
} from "../http/operation.ts";
import { hostParameters } from "../http/parameters.ts";
import { problems } from "../http/problem.ts";
import { operators } from "../http/security.ts";

export const adoptVolumesRoute = createRoute({
  method: "post",
  path: "/v1/hosts/{hostId}/adopt-volumes",
  operationId: "adoptVolumes",
  tags: ["hosts"],
  summary: "Adopt the volumes of a deleted host",
  description:
    "For a machine whose `/etc/machine-id` changed before it was enrolled again. `capabilities.otherHostVolumes` lists the hosts with volumes on the machine. Within a minute the agent removes the containers of the deleted host, and takes its volumes to the trash of this host. Users can restore them from there.",
  security: operators,
  request: { params: hostParameters, headers: idempotentHeaders, body: jsonBody(adoptVolumesBody) },
  responses: {
    202: jsonResponse(hostSchema, "The host."),
    ...commonProblems,
    ...problems("state-conflict", "idempotency-conflict", "idempotency-in-progress"),
  },
});

export const adoptVolumesHandler: OperationHandler<typeof adoptVolumesRoute> = (ctx) => async (c) =>
  c.json(await adoptVolumes(ctx, c.req.valid("param").hostId, c.req.valid("json")), 202);
