import type { ObservedSet } from "../../contracts/agent-protocol/observed-set.ts";
import type { EmittedEvent, EventSubjects } from "../../contracts/api/event-texts.ts";
import { createReason } from "../../contracts/api/reason-texts.ts";
import type { Reason } from "../../contracts/common/primitives.ts";
import type { ContainerStatus, SetState } from "../../contracts/api/sets.ts";
import type { Queryable } from "../../db/postgres/open-postgres.ts";
import { noteReplacements } from "../../db/queries/hosts/unknown-sets.ts";
import {
  type HostSetRow,
  confirmUpdates,
  lockSetsOnHost,
  markSetsLeaving,
  type ObservedUpdate,
  type ReleasedSet,
  releaseSets,
  updateObservedSets,
} from "../../db/queries/sets/observed-sets.ts";
import { insertRolloutWakes } from "../../db/queries/rollouts/rollouts.ts";
import { listSetsWithVolume } from "../../db/queries/volumes/volumes.ts";
import { confirmResizes, revertResizes } from "../../db/queries/services/resizes.ts";
import type { SignalChannel, UnitOfWork } from "../runtime/context.ts";
import { retryDelayMs } from "../placement/retry-delay.ts";

const AVOIDED_HOSTS_MAX = 8;

export interface AppliedReport {
  /** The number of ended bookings. */
  removed: number;
  /** The services of removed sets that are not placed again. */
  removedServiceIds: readonly string[];
  /** The host has more free capacity, because bookings ended or became smaller. */
  hasFreedCapacity: boolean;
}

/** The rows of the sets that an agent reports. */
export interface ReportedRows {
  rows: HostSetRow[];
  /**
   * Sets whose start the agent abandoned, with volume data on the host. Only a user may move them
   * (I13).
   */
  bound: string[];
}

/** Locks the reported sets that are booked on the host. The caller has locked the host. */
export async function lockObservedSets(
  tx: Queryable,
  hostId: string,
  observed: readonly ObservedSet[],
): Promise<ReportedRows> {
  if (observed.length === 0) return { rows: [], bound: [] };
  const setIds = observed.map((set) => set.setId);
  const abandoned = observed.flatMap((set) => (set.gaveUp ? set.setId : []));
  const [rows, bound] = await Promise.all([
    lockSetsOnHost(tx, hostId, setIds),
    listSetsWithVolume(tx, hostId, abandoned),
  ]);
  return { rows, bound };
}

/**
 * Stores the observed sets of an agent, given their locked rows. An entry about another host's set
 * or about a stale generation changes nothing: the next desired sets correct the agent. An entry
 * that equals the stored state writes and signals nothing.
 */
export async function applyObserved(
  tx: UnitOfWork,
  hostId: string,
  observed: readonly ObservedSet[],
  { rows, bound }: ReportedRows,
): Promise<AppliedReport> {
  const rowById = new Map(rows.map((row) => [row.id, row]));
  const updates: ObservedUpdate[] = [];
  const released: ReleasedSet[] = [];
  const leaving: string[] = [];
  const sized: string[] = [];
  const refused: RefusedSize[] = [];
  const replacing: string[] = [];
  const updated: string[] = [];
  const events: EmittedEvent[] = [];
  for (const set of takeLatestPerSet(observed)) {
    const row = rowById.get(set.setId);
    if (!row || set.generation < row.generation) continue;
    if (set.state === "absent") {
      const release = toRelease(row, hostId);
      if (!release) continue; // the agent has not started the set yet
      released.push(release);
      const data = { isPlacedAgain: release.placeAgain !== null };
      events.push({ kind: "set-removed", data, ...toSubjects(row, hostId) });
      continue;
    }
    const update = toUpdate(row, set, set.state);
    updates.push(update);
    if (update.ready && row.hasUnconfirmedCopy) replacing.push(row.id);
    if (update.ready && row.isUpdating) updated.push(row.id);
    events.push(...toEvents(row, hostId, update));
    const mayLeave =
      !row.leaving && !row.isUpdating && row.desired === "running" && !bound.includes(row.id);
    if (set.gaveUp && mayLeave) leaving.push(row.id);
    if (set.sized && !row.sized) sized.push(row.id);
    if (set.sizeRefused && row.canRevertSize) refused.push(toRefusal(set));
  }
  const [changed, , , hasSettled, returned] = await Promise.all([
    updateObservedSets(tx, hostId, updates),
    markSetsLeaving(tx, hostId, leaving),
    releaseSets(tx, hostId, released),
    confirmResizes(tx, hostId, sized),
    revertResizes(tx, hostId, refused),
    noteReplacements(tx, hostId, replacing),
    confirmUpdates(tx, updated),
  ]);
  for (const { setId, cause } of refused) {
    const row = rowById.get(setId);
    if (!row || !returned.includes(setId)) continue;
    const data = { reason: cause };
    events.push({ kind: "set-resize-refused", data, ...toSubjects(row, hostId) });
  }
  tx.emit(...events);
  wakeMoverForClaims(tx, hostId, released, rowById);
  await wakeMoverForUpdates(tx, hostId, [...changed, ...updated], rowById, updates);
  const changedIds = new Set([
    ...changed,
    ...updated,
    ...released.map(({ setId }) => setId),
    ...leaving,
    ...returned,
  ]);
  if (changedIds.size === 0) return { removed: 0, removedServiceIds: [], hasFreedCapacity: false };
  const changedRows = rows.filter(({ id }) => changedIds.has(id));
  tx.signal(...toSignals(changedRows, hostId, leaving.length + returned.length > 0));
  const removed = released.filter(({ placeAgain }) => placeAgain === null);
  const serviceIds = removed.flatMap(({ setId }) => rowById.get(setId)?.serviceId ?? []);
  return {
    removed: released.length,
    removedServiceIds: [...new Set(serviceIds)],
    hasFreedCapacity: released.length > 0 || hasSettled,
  };
}

/** Wakes the mover, which places released sets where it has booked capacity for them. */
function wakeMoverForClaims(
  tx: UnitOfWork,
  hostId: string,
  released: readonly ReleasedSet[],
  rowById: ReadonlyMap<string, HostSetRow>,
): void {
  if (!released.some(({ setId, placeAgain }) => placeAgain && rowById.get(setId)?.hasClaim)) return;
  const jobId = `move:${hostId}:at${Date.now()}`;
  tx.enqueue({ name: "move-sets", jobId, payload: { cause: "set-removed" } });
}

/**
 * Wakes the mover for sets whose operation, or whose rollout, may go on: they became ready or
 * unready, failed, or have a container that did. It inserts a row of each service with a rollout,
 * because a report must not change the rollout itself.
 */
async function wakeMoverForUpdates(
  tx: UnitOfWork,
  hostId: string,
  changedIds: readonly string[],
  rowById: ReadonlyMap<string, HostSetRow>,
  updates: readonly ObservedUpdate[],
): Promise<void> {
  const changed = new Set(changedIds);
  const woken = updates.flatMap((update) => {
    const row = changed.has(update.setId) ? rowById.get(update.setId) : undefined;
    return row && (row.hasRollout || row.isAwaited) && isNewsForMover(row, update) ? row : [];
  });
  if (woken.length === 0) return;
  const rolling = woken.flatMap(({ hasRollout, serviceId }) => (hasRollout ? serviceId : []));
  await insertRolloutWakes(tx, [...new Set(rolling)]);
  const jobId = `move:${hostId}:at${Date.now()}`;
  tx.enqueue({ name: "move-sets", jobId, payload: { cause: "set-changed" } });
}

function isNewsForMover(
  row: HostSetRow,
  { ready, state, sized, containers }: ObservedUpdate,
): boolean {
  if (row.isUpdating || ready !== row.ready) return true;
  // A resize is the last step of its operation. Only a rollout waits for its end.
  if (row.hasRollout && sized !== row.sized) return true;
  if (state !== row.state && state === "failed") return true;
  const before = new Map(row.containers.map((container) => [container.name, container]));
  return containers.some((container) => {
    const known = before.get(container.name);
    return known?.ready !== container.ready || known.restarts !== container.restarts;
  });
}

/** The last entry of each set. An agent sends one entry for each. */
function takeLatestPerSet(observed: readonly ObservedSet[]): ObservedSet[] {
  return [...new Map(observed.map((set) => [set.setId, set])).values()];
}

/**
 * The release of a set without objects on its host, if it is to be deleted or to leave the host.
 */
function toRelease(row: HostSetRow, hostId: string): ReleasedSet | undefined {
  if (row.desired === "deleted") return { setId: row.id, placeAgain: null };
  if (!row.leaving) return undefined;
  const avoidHostIds = [...row.avoidHostIds.filter((id) => id !== hostId), hostId].slice(
    -AVOIDED_HOSTS_MAX,
  );
  const retryAfterMs = row.attempts === 0 ? 0 : retryDelayMs(row.attempts);
  return { setId: row.id, placeAgain: { retryAfterMs, avoidHostIds } };
}

interface RefusedSize {
  setId: string;
  /** The agent's reason. */
  cause: string | null;
  reason: Reason;
}

/**
 * The host has refused the size of this generation repeatedly: the set returns to its previous
 * size.
 */
function toRefusal({ setId, reason }: ObservedSet): RefusedSize {
  const cause = reason?.text ?? null;
  return {
    setId,
    cause,
    reason: {
      ...createReason("resize-refused", { cause: "report", reason: cause }, "resize"),
      at: new Date().toISOString(),
    },
  };
}

function toUpdate(row: HostSetRow, set: ObservedSet, state: SetState): ObservedUpdate {
  return {
    setId: row.id,
    state,
    ready: set.ready && state === "running" && row.desired === "running",
    // A leaving set keeps its reason, which its next placement needs.
    reason: set.reason ?? (row.leaving ? row.reason : null),
    address: set.address,
    sized: set.sized,
    containers: set.containers,
  };
}

/** The event of a set that enters a state, or undefined for a state that no event reports. */
function stateEvent(state: SetState, reason: string | null): EmittedEvent | undefined {
  switch (state) {
    case "preparing":
    case "running":
    case "stopped":
    case "failed":
      return { kind: `set-${state}`, data: { reason } };
    case "starting":
    case "stopping":
    case "lost":
      return { kind: `set-${state}`, data: { cause: "report", reason } };
    default:
      return undefined;
  }
}

function toEvents(row: HostSetRow, hostId: string, update: ObservedUpdate): EmittedEvent[] {
  const subjects = toSubjects(row, hostId);
  const reason = update.reason?.text ?? null;
  const events: EmittedEvent[] = [];
  const entered = update.state === row.state ? undefined : stateEvent(update.state, reason);
  if (entered) events.push({ ...entered, ...subjects });
  if (update.ready !== row.ready) {
    events.push(
      update.ready
        ? { kind: "set-ready", data: {}, ...subjects }
        : { kind: "set-not-ready", data: { reason }, ...subjects },
    );
  }
  if (update.sized && !row.sized) events.push({ kind: "set-resized", data: {}, ...subjects });
  if (events.length === 0 && reason !== null && isNewWarning(row, update)) {
    events.push({ kind: "set-warning", data: { warning: reason }, ...subjects });
  }
  for (const container of update.containers) {
    const before = row.containers.find((candidate) => candidate.name === container.name);
    events.push(...containerEvents(container, before).map((event) => ({ ...event, ...subjects })));
  }
  return events;
}

function containerEvents(
  status: ContainerStatus,
  before: ContainerStatus | undefined,
): EmittedEvent[] {
  const { name: container, exitCode, restarts } = status;
  const events: EmittedEvent[] = [];
  const failure = newFailure(status, before);
  if (failure) {
    events.push({ kind: failure, data: { container, reason: status.reason?.text ?? null } });
  }
  if (before && restarts > before.restarts) {
    events.push({ kind: "container-restarted", data: { container, exitCode, restarts } });
  }
  return events;
}

/**
 * The set has a reason with a new code, which none of its containers has. For example, the host
 * cannot resize it.
 */
function isNewWarning(row: HostSetRow, { reason, containers }: ObservedUpdate): boolean {
  if (!reason || reason.code === row.reason?.code) return false;
  return !containers.some((container) => container.reason?.text === reason.text);
}

/**
 * The kind of a failure that the previous report did not contain, even if the container runs again.
 */
function newFailure(
  { reason, oomKills }: ContainerStatus,
  before: ContainerStatus | undefined,
): "container-exited" | "container-out-of-memory" | undefined {
  if (!reason || reason.at === before?.reason?.at) return undefined;
  if (reason.code === "container-exited") return "container-exited";
  if (reason.code !== "out-of-memory") return undefined;
  // The agent may report the kill of a main process twice: at the kill, and at the exit.
  const isReported = before?.reason?.code === "out-of-memory" && oomKills <= before.oomKills;
  return isReported ? undefined : "container-out-of-memory";
}

function toSubjects(row: HostSetRow, hostId: string): EventSubjects {
  const { tenantId, serviceId, id: setId, generation } = row;
  return { tenantId, serviceId, setId, hostId, generation };
}

function toSignals(
  rows: readonly HostSetRow[],
  hostId: string,
  wakeHost: boolean,
): SignalChannel[] {
  const channels = new Set<SignalChannel>(["events"]);
  for (const row of rows) {
    channels.add(`set:${row.id}`);
    channels.add(`service:${row.serviceId}`);
  }
  if (wakeHost) channels.add(`host:${hostId}`);
  return [...channels];
}
