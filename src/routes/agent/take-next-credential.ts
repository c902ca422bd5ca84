import { createRoute, z } from "@hono/zod-openapi";
import {
  AGENT_IDENTITY_HEADER,
  parseAgentIdentity,
} from "../../contracts/agent-protocol/agent-identity.ts";
import {
  nextCredentialTakenSchema,
  takeNextCredentialBody,
} from "../../contracts/agent-protocol/enroll.ts";
import { takeNextCredential } from "../../control/hosts/rotate-host-credential.ts";
import { getHostCaller } from "../http/api-env.ts";
import { bodyProblems, jsonBody, jsonResponse, type OperationHandler } from "../http/operation.ts";
import { problems } from "../http/problem.ts";
import { hosts } from "../http/security.ts";

const identityHeaders = z.object({
  [AGENT_IDENTITY_HEADER]: z
    .string()
    .optional()
    .describe(
      "The process of the agent, as in a sync. Only the process that manages the host can replace its credential. The header is required if that process has sent it in a sync.",
    ),
});

export const takeNextCredentialRoute = createRoute({
  method: "post",
  path: "/agent/v1/rotate-credential",
  operationId: "takeNextCredential",
  tags: ["agent"],
  summary: "Replace the credential of the host",
  description:
    "After an answer with `rotateCredential`. The agent has generated and saved the credential. The first request with it ends the rotation: then Berth refuses the previous one. A repeated request with the same credential has the same response.",
  security: hosts,
  request: { headers: identityHeaders, body: jsonBody(takeNextCredentialBody) },
  responses: {
    200: jsonResponse(nextCredentialTakenSchema, "Berth accepts the next credential."),
    ...bodyProblems,
    ...problems("state-conflict", "host-deleted"),
  },
});

export const takeNextCredentialHandler: OperationHandler<typeof takeNextCredentialRoute> =
  (ctx) => async (c) => {
    const host = getHostCaller(c);
    const agent = parseAgentIdentity(c.req.header(AGENT_IDENTITY_HEADER));
    await takeNextCredential(ctx, host, c.req.valid("json").credential, agent);
    return c.json({ hostId: host.hostId }, 200);
  };
