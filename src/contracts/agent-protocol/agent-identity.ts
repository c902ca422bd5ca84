import { z } from "zod";
import { duplicates } from "../api/hosts.ts";

/**
 * The header of a sync with the identity of its agent process. It is not a member of the body,
 * because an older API rejects a body with unknown members.
 */
export const AGENT_IDENTITY_HEADER = "berth-agent-identity";

const token = z.string().regex(/^[a-z0-9-]{1,64}$/);
const headerSchema = z.object({
  machine: token.optional(),
  boot: token,
  process: token,
  started: z.coerce.number().int().nonnegative(),
  ending: z.literal("yes").optional(),
});

/** A process of a host agent, and its machine. */
export interface AgentIdentity {
  /** A hash of the machine's id. Undefined if the machine has no lasting id. */
  machineId: string | undefined;
  /** The kernel's id of the current boot. */
  bootId: string;
  /** A random id of the process. */
  processId: string;
  /** The start of the process on the monotonic clock of its boot. */
  startedMs: number;
}

/**
 * The control plane's decision about an agent process. Only one process manages a host.
 *
 * - accepted: this process manages the host.
 * - wait: another boot managed the host a moment ago. The decision follows within seconds.
 * - The others refuse the process, and an operator must end it: see `duplicates`.
 */
export const admissions = ["accepted", "wait", ...duplicates] as const;
export type Admission = (typeof admissions)[number];

/** @param isEnding true in the last sync of a boot, whose machine shuts down */
export function encodeAgentIdentity(identity: AgentIdentity, isEnding = false): string {
  const { machineId, bootId, processId, startedMs } = identity;
  return new URLSearchParams({
    ...(machineId === undefined ? {} : { machine: machineId }),
    boot: bootId,
    process: processId,
    started: String(startedMs),
    ...(isEnding ? { ending: "yes" } : {}),
  }).toString();
}

/** Returns undefined for a missing or invalid header: the agent counts as one without identity. */
export function parseAgentIdentity(
  header: string | undefined,
): (AgentIdentity & { isEnding: boolean }) | undefined {
  if (header === undefined) return undefined;
  const parsed = headerSchema.safeParse(Object.fromEntries(new URLSearchParams(header)));
  if (!parsed.success) return undefined;
  const { machine, boot, process, started, ending } = parsed.data;
  return {
    machineId: machine,
    bootId: boot,
    processId: process,
    startedMs: started,
    isEnding: ending !== undefined,
  };
}
