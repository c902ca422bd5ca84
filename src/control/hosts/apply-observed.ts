import type { ObservedSet } from "../../contracts/agent-protocol/protocol.ts";
import type { EventKind } from "../../contracts/api/events.ts";
import type { Reason } from "../../contracts/common/primitives.ts";
import type { ContainerStatus, SetState } from "../../contracts/api/sets.ts";
import type { Queryable } from "../../db/postgres/open-postgres.ts";
import type { EventInput } from "../../db/queries/events/write-events.ts";
import {
  type HostSetRow,
  lockSetsOfHost,
  markSetsLeaving,
  type ObservedUpdate,
  type ReleasedSet,
  releaseSets,
  updateObservedSets,
} from "../../db/queries/sets/observed-sets.ts";
import { listSetsWithVolume } from "../../db/queries/volumes/volumes.ts";
import { returnSizes, settleSizes } from "../../db/queries/services/resizes.ts";
import type { SignalChannel, UnitOfWork } from "../runtime/context.ts";
import { retryDelayMs } from "../placement/place-pending-sets.ts";
import { cutText } from "../../lib/text/truncate.ts";

const AVOIDED_HOSTS_MAX = 8;

export interface AppliedReport {
  /** Bookings that ended. */
  removed: number;
  /** Those, or some that became smaller: there is more room than there was. */
  hasFreedRoom: boolean;
}

/** What is known of the sets that an agent reports. */
export interface ReportedRows {
  rows: HostSetRow[];
  /** Those given up that have a volume on the host: they go elsewhere, without what is in it, only when somebody says so. */
  bound: string[];
}

/** Locks what an agent saw of its sets, as far as they are booked on its host. The host's row is locked by the caller. */
export async function lockObservedSets(
  tx: Queryable,
  hostId: string,
  observed: readonly ObservedSet[],
): Promise<ReportedRows> {
  if (observed.length === 0) return { rows: [], bound: [] };
  const setIds = observed.map((set) => set.setId);
  const givenUp = observed.flatMap((set) => (set.gaveUp ? set.setId : []));
  const [rows, bound] = await Promise.all([
    lockSetsOfHost(tx, hostId, setIds),
    listSetsWithVolume(tx, hostId, givenUp),
  ]);
  return { rows, bound };
}

/**
 * Takes what an agent saw of its sets into the database, given their locked rows. What is about a set that is not booked on
 * this host (any more), or about an older generation of it, changes nothing: the desired sets that the agent
 * gets next put it right.
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
  const refused: { setId: string; reason: Reason }[] = [];
  const events: EventInput[] = [];
  for (const set of latestOfEach(observed)) {
    const row = rowById.get(set.setId);
    if (!row || set.generation < row.generation) continue;
    if (set.state === "absent") {
      const release = releaseOf(row, hostId);
      if (!release) continue; // not begun yet
      released.push(release);
      events.push(
        eventOf(
          row,
          hostId,
          "set-removed",
          release.placeAgain ? "removed to be placed again" : "removed",
        ),
      );
      continue;
    }
    const update = updateOf(row, set, set.state);
    updates.push(update);
    events.push(...eventsOf(row, hostId, update));
    const mayLeave = !row.leaving && row.desired === "running" && !bound.includes(row.id);
    if (set.gaveUp && mayLeave) leaving.push(row.id);
    if (set.sized && !row.sized) sized.push(row.id);
    if (set.sizeRefused && row.formerRevision !== null) refused.push(refusalOf(set));
  }
  const [, , , hasSettled, returned] = await Promise.all([
    updateObservedSets(tx, hostId, updates),
    markSetsLeaving(tx, hostId, leaving),
    releaseSets(tx, hostId, released),
    settleSizes(tx, hostId, sized),
    returnSizes(tx, hostId, refused),
  ]);
  for (const { setId, reason } of refused) {
    const row = rowById.get(setId);
    if (row && returned.includes(setId))
      events.push(eventOf(row, hostId, "set-resize-refused", reason.text));
  }
  tx.emit(...events);
  if (updates.length + released.length === 0) return { removed: 0, hasFreedRoom: false };
  tx.signal(...signalsOf(rows, hostId, leaving.length + returned.length > 0));
  return { removed: released.length, hasFreedRoom: released.length > 0 || hasSettled };
}

/** The agent sends one entry a set; should there be two, the last counts. */
function latestOfEach(observed: readonly ObservedSet[]): ObservedSet[] {
  return [...new Map(observed.map((set) => [set.setId, set])).values()];
}

/** Nothing is left of it: that ends the booking of what is to be deleted or to leave, and is no news of anything else. */
function releaseOf(row: HostSetRow, hostId: string): ReleasedSet | undefined {
  if (row.desired === "deleted") return { setId: row.id, placeAgain: null };
  if (!row.leaving) return undefined;
  const avoidHostIds = [...row.avoidHostIds.filter((id) => id !== hostId), hostId].slice(
    -AVOIDED_HOSTS_MAX,
  );
  const retryAfterMs = row.attempts === 0 ? 0 : retryDelayMs(row.attempts);
  return { setId: row.id, placeAgain: { retryAfterMs, avoidHostIds } };
}

/** The kernel has refused the size of this generation again and again: the set goes back to the one that it had. */
function refusalOf({ setId, reason }: ObservedSet): { setId: string; reason: Reason } {
  const text = `the new size was refused, and the set goes back to the one that it had: ${reason?.text ?? "its agent did not say why"}`;
  return {
    setId,
    reason: {
      code: "resize-refused",
      text: cutText(text, 2_000),
      phase: "resize",
      at: new Date().toISOString(),
    },
  };
}

function updateOf(row: HostSetRow, set: ObservedSet, state: SetState): ObservedUpdate {
  return {
    setId: row.id,
    state,
    ready: set.ready && state === "running" && row.desired === "running",
    // Why it leaves is not to be forgotten while it does: it is what its next placement is about.
    reason: set.reason ?? (row.leaving ? row.reason : null),
    address: set.address,
    sized: set.sized,
    containers: set.containers,
  };
}

const kindOfState: Partial<Record<SetState, EventKind>> = {
  preparing: "set-preparing",
  starting: "set-starting",
  running: "set-running",
  stopping: "set-stopping",
  stopped: "set-stopped",
  failed: "set-failed",
  lost: "set-lost",
};

function eventsOf(row: HostSetRow, hostId: string, update: ObservedUpdate): EventInput[] {
  const events: EventInput[] = [];
  const kind = update.state === row.state ? undefined : kindOfState[update.state];
  if (kind)
    events.push(eventOf(row, hostId, kind, update.reason?.text ?? `the set is ${update.state}`));
  if (update.ready !== row.ready) {
    events.push(
      update.ready
        ? eventOf(row, hostId, "set-ready", "the set is ready")
        : eventOf(row, hostId, "set-not-ready", update.reason?.text ?? "the set is not ready"),
    );
  }
  if (update.sized && !row.sized) {
    events.push(eventOf(row, hostId, "set-resized", "the set has its new size"));
  }
  if (events.length === 0 && isNewWarning(row, update)) {
    events.push(eventOf(row, hostId, "set-warning", update.reason?.text ?? ""));
  }
  for (const container of update.containers) {
    const before = row.containers.find((candidate) => candidate.name === container.name);
    const trouble = newTrouble(container, before);
    if (trouble) {
      events.push({
        ...eventOf(row, hostId, trouble, container.reason?.text ?? "it ended"),
        data: { container: container.name },
      });
    }
    if (!before || container.restarts <= before.restarts) continue;
    const exit = container.exitCode === null ? "" : ` after exit code ${container.exitCode}`;
    const text = `${container.name} was restarted${exit} (${container.restarts} times in all)`;
    events.push({
      ...eventOf(row, hostId, "container-restarted", text),
      data: { container: container.name },
    });
  }
  return events;
}

/** The set is as before, and now there is something to say of it that is not of one container: it cannot be resized, say. */
function isNewWarning(row: HostSetRow, { reason, containers }: ObservedUpdate): boolean {
  if (!reason || reason.code === row.reason?.code) return false;
  return !containers.some((container) => container.reason?.text === reason.text);
}

/** What has befallen a container and was not told before: it is seen this way, though the container is restarted or runs on. */
function newTrouble(
  { reason, oomKills }: ContainerStatus,
  before: ContainerStatus | undefined,
): EventKind | undefined {
  if (!reason || reason.at === before?.reason?.at) return undefined;
  if (reason.code === "container-exited") return "container-exited";
  if (reason.code !== "out-of-memory") return undefined;
  // The kill of a main process may be told twice: when it was killed, and when the container had ended of it.
  const isTold = before?.reason?.code === "out-of-memory" && oomKills <= before.oomKills;
  return isTold ? undefined : "container-out-of-memory";
}

function eventOf(row: HostSetRow, hostId: string, kind: EventKind, text: string): EventInput {
  return {
    kind,
    text: cutText(text, 2_000),
    tenantId: row.tenantId,
    serviceId: row.serviceId,
    setId: row.id,
    hostId,
    generation: row.generation,
  };
}

function signalsOf(
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
