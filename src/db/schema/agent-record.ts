import type { HostCapabilities } from "../../contracts/api/host-capabilities.ts";
import type { Duplicate } from "../../contracts/api/hosts.ts";

/** A duplicate that has not synced for this time has ended. An idle agent syncs every 30 s. */
export const DUPLICATE_MS = 300_000;

/** A duplicate of an agent that syncs beside the managing one. Times are those of the database. */
export interface DuplicateRecord {
  sinceMs: number;
  seenMs: number;
  /** An event and the reason of the host name it. */
  isReported: boolean;
}

/** The agent process that manages a host, in the column `hosts.agent`. */
export interface AgentRecord {
  /** Null until an agent sends one. The host is bound to it until its deletion. */
  machineId: string | null;
  bootId: string;
  processId: string;
  startedMs: number;
  /** The boot ended in order, so another one may follow immediately. */
  hasEnded: boolean;
  /** Another boot that manages the host unless the managing process syncs again. */
  claim: { bootId: string; sinceMs: number } | null;
  /** Boots that must not manage the host: previous ones, and copies. The oldest is first. */
  otherBoots: string[];
  duplicates: Partial<Record<Duplicate, DuplicateRecord>>;
}

/** The capabilities of an agent, in the column `hosts.capabilities`. */
export interface StoredCapabilities extends Omit<
  HostCapabilities,
  "otherHostVolumes" | "tunnelAddress" | "hostAddress"
> {
  /** An earlier release has stored none of these. */
  otherHostVolumes?: HostCapabilities["otherHostVolumes"];
  tunnelAddress?: string | null;
  hostAddress?: string | null;
  /** The agent's hash of them. */
  version: string;
}
