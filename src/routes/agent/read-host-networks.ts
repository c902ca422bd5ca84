import { createRoute } from "@hono/zod-openapi";
import {
  hostNetworksQuery,
  hostNetworksSchema,
} from "../../contracts/agent-protocol/host-networks.ts";
import type { NetworkFeeds } from "../../control/networks/network-feeds.ts";
import { readHostNetworks } from "../../control/networks/read-host-networks.ts";
import { writeHostNetworks } from "../../control/networks/write-host-networks.ts";
import { getHostCaller } from "../http/api-env.ts";
import { commonProblems, jsonResponse, type OperationHandler } from "../http/operation.ts";
import { problems } from "../http/problem.ts";
import { hosts } from "../http/security.ts";

export const readHostNetworksRoute = createRoute({
  method: "get",
  path: "/agent/v1/network-state",
  operationId: "readHostNetworks",
  tags: ["agent"],
  summary: "Read the networks of the host, with their ports on other hosts",
  description: "Answers when they differ from `version`, or after `waitMs`.",
  security: hosts,
  request: { query: hostNetworksQuery },
  responses: {
    200: jsonResponse(hostNetworksSchema, "The networks that have a set on the host."),
    ...commonProblems,
    ...problems("host-deleted"),
  },
});

/** All hosts of a process share `feeds`. */
export const readHostNetworksHandler =
  (feeds: NetworkFeeds): OperationHandler<typeof readHostNetworksRoute> =>
  (ctx) =>
  async (c) => {
    const { hostId } = getHostCaller(c);
    const query = c.req.valid("query");
    const answer = await readHostNetworks(ctx, feeds, hostId, query, c.req.raw.signal);
    const text = writeHostNetworks(answer);
    return c.body(text, 200, { "Content-Type": "application/json" }) as never;
  };
