import {
  type AgentCapabilities,
  UNKNOWN_CAPABILITIES,
} from "../../contracts/agent-protocol/agent-capabilities.ts";
import {
  countSetsThatNeed,
  lockCapabilities,
  storeCapabilities,
} from "../../db/queries/hosts/capabilities.ts";
import { listNetworksOnHost } from "../../db/queries/networks/host-networks.ts";
import { findDeletedOnOtherMachines } from "../../db/queries/hosts/remove-hosts.ts";
import type { StoredCapabilities } from "../../db/schema/agent-record.ts";
import { retryPending } from "../placement/retry-pending.ts";
import type { ControlContext, UnitOfWork } from "../runtime/context.ts";
import { unitOfWork } from "../runtime/unit-of-work.ts";
import type { HostCaller } from "./authenticate-host.ts";

/** The capabilities of an agent, as far as its sync contains them. */
interface ReportedCapabilities {
  /** Undefined for an agent of an earlier release. */
  version: string | undefined;
  /** Undefined if the sync does not contain them. */
  capabilities: AgentCapabilities | undefined;
}

/**
 * Stores the capabilities of an agent if they differ from the stored ones, and forgets them if the
 * agent is of an earlier release. So a rollback of an agent takes its features from the planner.
 * Most syncs have the stored version, and cost nothing. Sets on the host stay in each case (I17).
 *
 * Returns false if the stored capabilities have another version, and the sync has none.
 */
export async function noteCapabilities(
  ctx: ControlContext,
  { hostId, capabilitiesVersion: known }: Pick<HostCaller, "hostId" | "capabilitiesVersion">,
  { version, capabilities }: ReportedCapabilities,
): Promise<boolean> {
  if (version === UNKNOWN_CAPABILITIES || version === (known ?? undefined)) return true;
  if (version !== undefined && capabilities === undefined) return false;
  await unitOfWork(ctx, async (tx) => {
    const before = await lockCapabilities(tx, hostId);
    if (before === undefined) return; // the host is deleted
    const after =
      version === undefined || capabilities === undefined
        ? null
        : {
            ...capabilities,
            version,
            selfTest: capabilities.selfTest ?? before.capabilities?.selfTest ?? null,
            otherHostVolumes:
              capabilities.otherHostVolumes ?? before.capabilities?.otherHostVolumes ?? null,
            tunnelAddress: capabilities.tunnelAddress ?? before.capabilities?.tunnelAddress ?? null,
            hostAddress: capabilities.hostAddress ?? before.capabilities?.hostAddress ?? null,
          };
    await storeCapabilities(tx, hostId, after);
    await noteChanges(ctx, tx, { hostId, before: before.capabilities, after });
  });
  return true;
}

interface CapabilitiesChange {
  hostId: string;
  before: StoredCapabilities | null;
  after: StoredCapabilities | null;
}

async function noteChanges(
  ctx: ControlContext,
  tx: UnitOfWork,
  { hostId, before, after }: CapabilitiesChange,
): Promise<void> {
  noteSelfTest(ctx, tx, { hostId, before, after });
  await noteOtherHosts(ctx, tx, { hostId, before, after });
  if ((after?.tunnelAddress ?? null) !== (before?.tunnelAddress ?? null))
    for (const networkId of await listNetworksOnHost(tx, hostId)) tx.signal(`network:${networkId}`);
  const features = listMissing(before, after);
  if (features.length > 0) {
    const sets = await countSetsThatNeed(tx, hostId, features);
    tx.emit({ kind: "host-features-lost", data: { features, sets }, hostId });
    ctx.log.warn({ hostId, features, sets }, "an agent lacks features that it had");
  }
  const hasGained =
    listMissing(after, before).length > 0 ||
    (before?.selfTest?.state === "failed" && after?.selfTest?.state !== "failed") ||
    toSetsMax(after) > toSetsMax(before);
  if (hasGained) await retryPending(tx, hostId, "capacity-gained");
}

function noteSelfTest(
  ctx: ControlContext,
  tx: UnitOfWork,
  { hostId, before, after }: CapabilitiesChange,
): void {
  const previous = before?.selfTest?.state;
  const { state, reason: cause } = after?.selfTest ?? {};
  const isFailure = state === "failed" || state === "reported";
  if (isFailure && state !== previous) {
    const data = { reason: cause?.text ?? null, isOnlyReported: state === "reported" };
    tx.emit({ kind: "host-self-test-failed", data, hostId });
    ctx.log.warn({ hostId, ...data }, "the self test of an agent failed");
  }
  if (state === "passed" && (previous === "failed" || previous === "reported"))
    tx.emit({ kind: "host-self-test-passed", data: {}, hostId });
}

/** Emits an event for each deleted host whose volumes are on the machine, once. */
async function noteOtherHosts(
  ctx: ControlContext,
  tx: UnitOfWork,
  { hostId, before, after }: CapabilitiesChange,
): Promise<void> {
  const known = new Set(before?.otherHostVolumes?.map((one) => one.hostId));
  const found = (after?.otherHostVolumes ?? []).filter((one) => !known.has(one.hostId));
  if (found.length === 0) return;
  const foundIds = found.map((one) => one.hostId);
  const deletedIds = await findDeletedOnOtherMachines(tx, hostId, foundIds);
  for (const { hostId: deletedHostId, volumes } of found) {
    if (!deletedIds.includes(deletedHostId)) continue;
    tx.emit({ kind: "host-volumes-found", data: { deletedHostId, volumes }, hostId });
    ctx.log.warn({ hostId, deletedHostId, volumes }, "a machine has volumes of a deleted host");
  }
}

function toSetsMax(capabilities: StoredCapabilities | null): number {
  return capabilities?.setsMax ?? Number.POSITIVE_INFINITY;
}

/** The features of `left` that `right` lacks. */
function listMissing(left: StoredCapabilities | null, right: StoredCapabilities | null): string[] {
  const others = new Set(right?.features);
  return (left?.features ?? []).filter((feature) => !others.has(feature));
}
