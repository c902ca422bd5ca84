import { z } from "zod";
import { hostNetworkSchema } from "../network-driver/network-state.ts";
import { SYNC_WAIT_MS_MAX } from "./protocol.ts";

/** A hash of the networks of a host. */
const networksVersionSchema = z.string().regex(/^[0-9a-f]{32}$/);

/** The query of `GET /agent/v1/network-state`. */
export const hostNetworksQuery = z.object({
  version: networksVersionSchema
    .optional()
    .describe("The version that the host has. Without it, the answer comes immediately."),
  waitMs: z.coerce
    .number()
    .int()
    .min(0)
    .max(SYNC_WAIT_MS_MAX)
    .default(0)
    .describe("How long the API may wait for another version."),
});
export type HostNetworksQuery = z.output<typeof hostNetworksQuery>;

/** The networks that have a port on a host, with their ports on other hosts. */
export const hostNetworksSchema = z
  .strictObject({
    version: networksVersionSchema,
    networks: z
      .array(hostNetworkSchema)
      .nullable()
      .describe("Null if the host has this version already."),
  })
  .meta({ id: "HostNetworks" });
export type HostNetworks = z.output<typeof hostNetworksSchema>;
