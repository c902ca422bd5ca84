import { z } from "zod";
import {
  dockerFactsSchema,
  featureSchema,
  type HostCapabilities,
  OTHER_HOSTS_MAX,
  otherHostVolumesSchema,
  selfTestSchema,
} from "../api/host-capabilities.ts";
import { addressSchema } from "../network-driver/network-state.ts";
import { lenientStart, nullIfInvalid } from "./lenient-array.ts";

/**
 * The header of each sync with the version of the agent's capabilities: a hash of them. If the API
 * has stored another version, its answer requests the capabilities, and the next sync contains
 * them. So an agent sends them once after each change, and again after a restore of the database.
 *
 * An agent without this header is of an earlier release, perhaps after a rollback. The API then
 * forgets the capabilities of the host. It is a header, because an older API rejects a body with
 * unknown members.
 */
export const CAPABILITIES_HEADER = "berth-agent-capabilities";

/** The header of a sync that says nothing about the capabilities, so the stored ones stay. */
export const UNKNOWN_CAPABILITIES = "unknown";

const FEATURES_MAX = 256;
const versionSchema = z.string().regex(/^[a-z0-9]{1,64}$/);

/** Newer agents may send more members, which the API ignores. */
export const agentCapabilitiesSchema = z.object({
  features: lenientStart(featureSchema, FEATURES_MAX),
  docker: nullIfInvalid(dockerFactsSchema.strip()),
  setsMax: nullIfInvalid(z.number().int().min(0)),
  /** Null until the first self test of the process has ended: the stored result stays. */
  selfTest: nullIfInvalid(selfTestSchema.strip()),
  /** Null until the agent has read them: the stored ones stay. */
  otherHostVolumes: nullIfInvalid(z.array(otherHostVolumesSchema.strip()).max(OTHER_HOSTS_MAX)),
  /** Null while the agent does not know it, and on a host without one: the stored one stays. */
  tunnelAddress: nullIfInvalid(addressSchema),
  /** Null while the agent does not know it: the stored one stays. */
  hostAddress: nullIfInvalid(addressSchema),
});
export type AgentCapabilities = HostCapabilities;

/** Returns undefined without a header, and UNKNOWN_CAPABILITIES for an invalid one. */
export function parseCapabilitiesVersion(header: string | undefined): string | undefined {
  if (header === undefined) return undefined;
  return versionSchema.safeParse(header).data ?? UNKNOWN_CAPABILITIES;
}
