import type { Admission, AgentIdentity } from "../../contracts/agent-protocol/agent-identity.ts";
import type { Duplicate } from "../../contracts/api/hosts.ts";
import {
  type AgentRecord,
  DUPLICATE_MS,
  type DuplicateRecord,
} from "../../db/schema/agent-record.ts";

/**
 * After this time without a sync of the previous boot, its machine has restarted. A signal wakes
 * the long poll of a previous agent that still runs, so it syncs within a second.
 */
export const CLAIM_MS = 10_000;
/** An older claim belongs to a machine that no longer syncs. Another boot may claim the host. */
const CLAIM_MS_MAX = 60_000;
/** The newest refused boots that a record has. Each restart of a duplicate machine adds one. */
const OTHER_BOOTS_MAX = 16;
/** A record of a duplicate changes at most this often. */
const DUPLICATE_WRITE_MS = 60_000;
/**
 * The last sync of a stopped agent may arrive after the first sync of the next one. So two
 * processes on one machine are duplicates only if the older one still syncs after this time.
 */
const OLDER_PROCESS_MS = 10_000;

export interface AdmissionDecision {
  admission: Admission;
  /** The record to store. Undefined if it does not change. */
  record?: AgentRecord;
  /** A duplicate that was not reported yet. */
  newDuplicate?: Duplicate;
  /** The previous agent must sync now, if it still runs. */
  isClaim?: boolean;
}

export interface AdmissionFacts {
  /** The time of the database. */
  nowMs: number;
  /** The managing process has not synced for the length of a lease. */
  isLeaseExpired: boolean;
}

/**
 * Decides which of several agent processes manages a host (I3). The host is bound to its machine.
 * On one boot the newer process manages it. A new boot manages it if the previous one ended in
 * order or no longer syncs. Otherwise the new boot is a copy of the machine.
 *
 * No decision compares clocks of two machines (I16): `startedMs` orders processes of one boot only.
 */
export function decideAdmission(
  record: AgentRecord | null,
  agent: AgentIdentity & { isEnding: boolean },
  facts: AdmissionFacts,
): AdmissionDecision {
  if (record === null) return accept(createRecord(agent));
  const { machineId } = agent;
  if (machineId !== undefined && record.machineId !== null && machineId !== record.machineId)
    return refuse(record, "another-machine", facts);
  return agent.bootId === record.bootId
    ? decideOnSameBoot(record, agent, facts)
    : decideOnOtherBoot(record, agent, facts);
}

/** True if `agent` manages the host and its sync changes nothing, so no decision is necessary. */
export function isSettled(
  record: AgentRecord | null,
  agent: AgentIdentity & { isEnding: boolean },
): boolean {
  return (
    record !== null &&
    record.claim === null &&
    !agent.isEnding &&
    record.processId === agent.processId &&
    record.bootId === agent.bootId &&
    record.machineId === (agent.machineId ?? record.machineId)
  );
}

function decideOnSameBoot(
  record: AgentRecord,
  agent: AgentIdentity & { isEnding: boolean },
  facts: AdmissionFacts,
): AdmissionDecision {
  const isSame = agent.processId === record.processId;
  const mayTakeOver = record.hasEnded || facts.isLeaseExpired || isNewer(agent, record);
  if (!isSame && !mayTakeOver) return refuse(record, "newer-process", facts);
  const { claim, otherBoots } = record;
  // The managing boot still runs, so the machine of the claim is a copy of it.
  const refusedBoots = claim === null ? otherBoots : addBoot(otherBoots, claim.bootId);
  return accept({
    ...record,
    ...createRecord(agent),
    machineId: agent.machineId ?? record.machineId,
    hasEnded: agent.isEnding || (isSame && record.hasEnded),
    otherBoots: refusedBoots,
    duplicates: record.duplicates,
  });
}

function isNewer(agent: AgentIdentity, record: AgentRecord): boolean {
  if (agent.startedMs !== record.startedMs) return agent.startedMs > record.startedMs;
  return agent.processId > record.processId;
}

function decideOnOtherBoot(
  record: AgentRecord,
  agent: AgentIdentity & { isEnding: boolean },
  facts: AdmissionFacts,
): AdmissionDecision {
  const { bootId } = agent;
  if (record.otherBoots.includes(bootId)) return refuse(record, "another-boot", facts);
  const { claim } = record;
  const claimAgeMs = claim === null ? Number.POSITIVE_INFINITY : facts.nowMs - claim.sinceMs;
  const isConfirmed = claim?.bootId === bootId && claimAgeMs >= CLAIM_MS;
  if (record.hasEnded || facts.isLeaseExpired || isConfirmed) {
    const { hasEnded, otherBoots } = record;
    return accept({
      ...createRecord(agent),
      machineId: agent.machineId ?? record.machineId,
      otherBoots: hasEnded ? otherBoots : addBoot(otherBoots, record.bootId),
      duplicates: record.duplicates,
    });
  }
  if (claim !== null && claimAgeMs < CLAIM_MS_MAX) return { admission: "wait" };
  const next = { ...record, claim: { bootId, sinceMs: facts.nowMs } };
  return { admission: "wait", record: next, isClaim: true };
}

function createRecord(agent: AgentIdentity & { isEnding: boolean }): AgentRecord {
  const { machineId = null, bootId, processId, startedMs, isEnding } = agent;
  return {
    machineId,
    bootId,
    processId,
    startedMs,
    hasEnded: isEnding,
    claim: null,
    otherBoots: [],
    duplicates: {},
  };
}

function accept(record: AgentRecord): AdmissionDecision {
  return { admission: "accepted", record };
}

function addBoot(otherBoots: readonly string[], bootId: string): string[] {
  return [...otherBoots.filter((other) => other !== bootId), bootId].slice(-OTHER_BOOTS_MAX);
}

/** Refuses an agent. A duplicate is reported once, until it is silent for DUPLICATE_MS. */
function refuse(
  record: AgentRecord,
  admission: Duplicate,
  { nowMs }: AdmissionFacts,
): AdmissionDecision {
  const known = record.duplicates[admission];
  const isSilent = known === undefined || nowMs - known.seenMs > DUPLICATE_MS;
  const sinceMs = isSilent ? nowMs : known.sinceMs;
  const isReported =
    (!isSilent && known.isReported) ||
    admission !== "newer-process" ||
    nowMs - sinceMs >= OLDER_PROCESS_MS;
  const isNew = isReported && (isSilent || !known.isReported);
  if (!isSilent && !isNew && nowMs - known.seenMs < DUPLICATE_WRITE_MS) return { admission };
  const duplicate: DuplicateRecord = { sinceMs, seenMs: nowMs, isReported };
  return {
    admission,
    record: { ...record, duplicates: { ...record.duplicates, [admission]: duplicate } },
    ...(isNew ? { newDuplicate: admission } : {}),
  };
}
