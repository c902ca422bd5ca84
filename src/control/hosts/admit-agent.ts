import type { Admission, AgentIdentity } from "../../contracts/agent-protocol/agent-identity.ts";
import { LEASE_SECONDS, PREVIOUS_HOSTS_MAX } from "../../contracts/agent-protocol/protocol.ts";
import type { Sync, SyncResult } from "../../contracts/agent-protocol/sync.ts";
import { lockAgentRecord, updateAgentRecord } from "../../db/queries/hosts/agent-records.ts";
import { listDeletedHosts } from "../../db/queries/hosts/remove-hosts.ts";
import { renewLeaseAfterRejection } from "../../db/queries/hosts/write-hosts.ts";
import type { ControlContext } from "../runtime/context.ts";
import { storeAddressReport } from "../networks/claim-unknown-addresses.ts";
import { unitOfWork } from "../runtime/unit-of-work.ts";
import { decideAdmission, isSettled } from "./decide-admission.ts";
import type { HostCaller } from "./authenticate-host.ts";
import { noteCapabilities } from "./note-capabilities.ts";
import { omitUnsupportedSets } from "./omit-unsupported-sets.ts";
import { syncHost } from "./sync-host.ts";

type SyncingAgent = AgentIdentity & { isEnding: boolean };

/** A sync with what its headers say about the agent. */
export interface AgentSync {
  body: Sync;
  /** Undefined for agents of older releases, which are always served. */
  agent: SyncingAgent | undefined;
  /** The version of the agent's capabilities. Undefined for agents of older releases. */
  capabilitiesVersion: string | undefined;
}

/**
 * Handles one sync of an agent process. Only the process that manages the host is served. Another
 * one gets no desired sets, its report is not stored, and it does not renew the lease.
 */
export async function syncAgent(
  ctx: ControlContext,
  caller: HostCaller,
  { body, agent, capabilitiesVersion }: AgentSync,
  signal: AbortSignal,
): Promise<SyncResult> {
  if (agent === undefined)
    return syncWithCapabilities(ctx, caller, { body, capabilitiesVersion }, signal);
  const admission = await admitAgent(ctx, caller, agent);
  if (admission === "accepted") {
    const sync = { body, capabilitiesVersion };
    const answer = { ...(await syncWithCapabilities(ctx, caller, sync, signal)), admission };
    const { machineId } = agent;
    if (!answer.full || machineId === undefined) return answer;
    const previousHosts = await listDeletedHosts(ctx.db, machineId, PREVIOUS_HOSTS_MAX);
    return { ...answer, previousHosts };
  }
  // The previous boot or this one manages the host, so the host is up in either case.
  if (admission === "wait") await renewLeaseAfterRejection(ctx.db, caller.hostId, LEASE_SECONDS);
  return {
    admission,
    hostGeneration: caller.generation,
    full: false,
    sets: [],
    streams: [],
    reportAgain: [],
    purgeVolumes: [],
    leaseSeconds: LEASE_SECONDS,
    serverTime: new Date().toISOString(),
  };
}

/** A sync whose answer requests capabilities or addresses does not wait for changed sets. */
async function syncWithCapabilities(
  ctx: ControlContext,
  caller: HostCaller,
  { body, capabilitiesVersion }: Omit<AgentSync, "agent">,
  signal: AbortSignal,
): Promise<SyncResult> {
  const { capabilities, addresses } = body;
  if (addresses && caller.hasUnknownAddresses)
    await storeAddressReport(ctx, caller.hostId, addresses);
  const wantsAddresses = caller.hasUnknownAddresses && !addresses;
  const isCurrent = await noteCapabilities(ctx, caller, {
    version: capabilitiesVersion,
    capabilities,
  });
  if (wantsAddresses) {
    const requests = { sendAddresses: true, ...(isCurrent ? {} : { sendCapabilities: true }) };
    return { ...(await syncHost(ctx, caller, { ...body, waitMs: 0 }, signal)), ...requests };
  }
  if (isCurrent) {
    const answer = await syncHost(ctx, caller, body, signal);
    return capabilitiesVersion === undefined ? omitUnsupportedSets(answer) : answer;
  }
  const answer = await syncHost(ctx, caller, { ...body, waitMs: 0 }, signal);
  return { ...answer, sendCapabilities: true };
}

async function admitAgent(
  ctx: ControlContext,
  { hostId, agent: known }: HostCaller,
  agent: SyncingAgent,
): Promise<Admission> {
  if (isSettled(known, agent)) return "accepted";
  const decided = await unitOfWork(ctx, async (tx) => {
    const locked = await lockAgentRecord(tx, hostId);
    if (!locked) return undefined;
    const decision = decideAdmission(locked.record, agent, locked);
    if (decision.record) await updateAgentRecord(tx, hostId, decision.record);
    if (decision.isClaim) tx.signal(`host:${hostId}`);
    const { newDuplicate } = decision;
    if (newDuplicate) tx.emit({ kind: "host-duplicated", data: { cause: newDuplicate }, hostId });
    return decision;
  });
  if (!decided) return "accepted"; // the sync itself finds that the host is deleted
  const { admission, newDuplicate } = decided;
  if (newDuplicate) {
    const { machineId, bootId, processId } = agent;
    const log = { hostId, admission, machineId, bootId, processId };
    ctx.log.error(log, "refused a second agent of one host");
  }
  return admission;
}
