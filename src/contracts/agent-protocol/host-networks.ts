import { z } from "zod";
import { hostNetworkSchema, NETWORKS_PER_HOST_MAX } from "../network-driver/network-state.ts";
import { networkChangeSchema, networkVersionSchema } from "./network-changes.ts";
import { SYNC_WAIT_MS_MAX } from "./protocol.ts";

/** A longer list would exceed the longest request line of some proxies. */
export const NETWORK_VERSIONS_SENT_MAX = 64;

/** The query of `GET /agent/v1/network-state`. */
export const hostNetworksQuery = z.object({
  version: networkVersionSchema
    .optional()
    .describe("The version that the host has. Without it, the answer comes immediately."),
  networkVersions: z
    .string()
    .max(NETWORK_VERSIONS_SENT_MAX * 33)
    .regex(/^([0-9a-f]{32}(,[0-9a-f]{32})*)?$/)
    .transform((text) => (text === "" ? [] : text.split(",")))
    .optional()
    .describe(
      "The versions of networks that the host has, at most 64. With this member, even if it is empty, the answer may have `changes`.",
    ),
  waitMs: z.coerce
    .number()
    .int()
    .min(0)
    .max(SYNC_WAIT_MS_MAX)
    .default(0)
    .describe("How long the API may wait for another version."),
  knowsGateways: z
    .stringbool()
    .default(false)
    .describe(
      "Whether agent and network driver know the members for gateways. Without it, the answer has none of them.",
    ),
});
export type HostNetworksQuery = z.output<typeof hostNetworksQuery>;

/** The networks that have a port on a host, with their ports on other hosts. */
export const hostNetworksSchema = z
  .strictObject({
    version: networkVersionSchema,
    networks: z
      .array(hostNetworkSchema)
      .nullable()
      .describe("Null if the host has this version already. With `changes`, only some of them."),
    changes: z
      .array(networkChangeSchema)
      .max(NETWORKS_PER_HOST_MAX)
      .optional()
      .describe("All networks of the host. Absent if `networks` has them whole."),
  })
  .meta({ id: "HostNetworks" });
export type HostNetworks = z.output<typeof hostNetworksSchema>;
