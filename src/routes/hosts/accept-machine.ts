import { createRoute } from "@hono/zod-openapi";
import { hostSchema } from "../../contracts/api/hosts.ts";
import { acceptMachine } from "../../control/hosts/accept-machine.ts";
import {
  commonProblems,
  idempotentHeaders,
  jsonResponse,
  type OperationHandler,
} from "../http/operation.ts";
import { hostParameters } from "../http/parameters.ts";
import { problems } from "../http/problem.ts";
import { operators } from "../http/security.ts";

export const acceptMachineRoute = createRoute({
  method: "post",
  path: "/v1/hosts/{hostId}/accept-machine",
  operationId: "acceptMachine",
  tags: ["hosts"],
  summary: "Accept another machine for a lost host",
  description:
    "A host is bound to its machine. After a change of `/etc/machine-id`, Berth refuses its agent. This request binds the host to the machine whose agent syncs next. Before, stop each other agent with a copy of the data folder.",
  security: operators,
  request: { params: hostParameters, headers: idempotentHeaders },
  responses: {
    200: jsonResponse(hostSchema, "The host."),
    ...commonProblems,
    ...problems("state-conflict", "idempotency-conflict", "idempotency-in-progress"),
  },
});

export const acceptMachineHandler: OperationHandler<typeof acceptMachineRoute> =
  (ctx) => async (c) =>
    c.json(await acceptMachine(ctx, c.req.valid("param").hostId), 200);
