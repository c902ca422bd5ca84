import { createRoute, z } from "@hono/zod-openapi";
import {
  AGENT_IDENTITY_HEADER,
  parseAgentIdentity,
} from "../../contracts/agent-protocol/agent-identity.ts";
import {
  CAPABILITIES_HEADER,
  parseCapabilitiesVersion,
} from "../../contracts/agent-protocol/agent-capabilities.ts";
import { syncBody, syncResultSchema } from "../../contracts/agent-protocol/sync.ts";
import { syncAgent } from "../../control/hosts/admit-agent.ts";
import { getHostCaller } from "../http/api-env.ts";
import { bodyProblems, jsonBody, jsonResponse, type OperationHandler } from "../http/operation.ts";
import { problems } from "../http/problem.ts";
import { hosts } from "../http/security.ts";

const agentHeaders = z.object({
  [AGENT_IDENTITY_HEADER]: z
    .string()
    .optional()
    .describe(
      "The process that sends the sync, as URL-encoded members: `machine`, `boot`, `process`, `started`, and `ending` in its last sync. Of several processes, only one manages the host. Without the header, Berth cannot detect a second agent.",
    ),
  [CAPABILITIES_HEADER]: z
    .string()
    .optional()
    .describe(
      "A hash of the agent's capabilities, or `unknown`. If Berth has stored other ones, it answers with `sendCapabilities`. Without the header, the agent is of an earlier release, and Berth forgets the capabilities of the host.",
    ),
});

export const syncHostRoute = createRoute({
  method: "post",
  path: "/agent/v1/sync",
  operationId: "syncHost",
  tags: ["agent"],
  summary: "Report observed sets, and receive desired sets",
  description: "Renews the lease. Answers when a desired set changes, or after `waitMs`.",
  security: hosts,
  request: { headers: agentHeaders, body: jsonBody(syncBody) },
  responses: {
    200: jsonResponse(syncResultSchema, "Desired sets changed since the accepted generation."),
    ...bodyProblems,
    ...problems("host-deleted"),
  },
});

export const syncHostHandler: OperationHandler<typeof syncHostRoute> = (ctx) => async (c) => {
  const agent = parseAgentIdentity(c.req.header(AGENT_IDENTITY_HEADER));
  const capabilitiesVersion = parseCapabilitiesVersion(c.req.header(CAPABILITIES_HEADER));
  const sync = { body: c.req.valid("json"), agent, capabilitiesVersion };
  return c.json(await syncAgent(ctx, getHostCaller(c), sync, c.req.raw.signal), 200);
};
