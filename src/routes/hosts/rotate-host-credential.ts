import { createRoute } from "@hono/zod-openapi";
import { hostSchema } from "../../contracts/api/hosts.ts";
import { rotateHostCredential } from "../../control/hosts/rotate-host-credential.ts";
import { getCaller } from "../http/api-env.ts";
import {
  commonProblems,
  idempotentHeaders,
  jsonResponse,
  type OperationHandler,
} from "../http/operation.ts";
import { hostParameters } from "../http/parameters.ts";
import { problems } from "../http/problem.ts";
import { operators } from "../http/security.ts";

export const rotateHostCredentialRoute = createRoute({
  method: "post",
  path: "/v1/hosts/{hostId}/rotate-credential",
  operationId: "rotateHostCredential",
  tags: ["hosts"],
  summary: "Request a new credential for the agent of a host",
  description:
    "The agent generates the credential, and uses it within seconds. Then Berth refuses the previous one. Until then, both are valid, even if the host is down. A repeated request changes nothing. An agent of an earlier release cannot rotate its credential: the request is a state-conflict.",
  security: operators,
  request: { params: hostParameters, headers: idempotentHeaders },
  responses: {
    200: jsonResponse(hostSchema, "The host, with the requested rotation."),
    ...commonProblems,
    ...problems("state-conflict", "idempotency-conflict", "idempotency-in-progress"),
  },
});

export const rotateHostCredentialHandler: OperationHandler<typeof rotateHostCredentialRoute> =
  (ctx) => async (c) =>
    c.json(await rotateHostCredential(ctx, getCaller(c), c.req.valid("param").hostId), 200);
