import type { UnsupportedSet } from "../../contracts/agent-protocol/read-desired-sets.ts";
import { SYNC_WAIT_MS_MAX } from "../../contracts/agent-protocol/protocol.ts";
import type { SyncResult } from "../../contracts/agent-protocol/sync.ts";
import type { OtherHostVolumes } from "../../contracts/api/host-capabilities.ts";
import type { ReportedVolume, UnreadableVolume } from "../../contracts/api/volumes.ts";
import type { Log } from "../../lib/log.ts";
import { isAborted } from "../../lib/async/abort.ts";
import { type Clock, sleep } from "../base/clock.ts";
import type { Reason } from "../../contracts/common/primitives.ts";
import type { LocalVolume, VolumePort } from "../ports/volume-port.ts";
import { toStepFailure } from "../model/step-failure.ts";
import { Wakeup } from "../base/wakeup.ts";

/** Requests within this time share one check. */
const CHECK_DELAY_MS = 250;
/** A change of a volume's usage is reported if it exceeds this share of the volume. */
const REPORTED_CHANGE_SHARE = 0.01;

/**
 * A set that has a volume or may get a trashed one. The agent may not be able to read its
 * description.
 */
type OrderedSet = Pick<UnsupportedSet, "setId" | "desired" | "restoreVolumeId"> & {
  template?: { volume: { sizeBytes: number } | null };
};

export interface VolumeGcOptions {
  port: VolumePort;
  clock: Clock;
  log: Log;
  /** Interval at which the agent checks all volumes and purges expired ones. */
  intervalMs: number;
  /** Called when there is a change to report. */
  onChange: () => void;
}

interface TrackedVolume extends LocalVolume {
  state: "live" | "trashed";
  /** The reason why its purge failed. */
  reason: Reason | null;
}

interface CheckedVolumes {
  volumes: TrackedVolume[];
  /** Ids of volumes with unreadable tags, sorted. */
  unreadable: string[];
  otherHosts: OtherHostVolumes[];
}

/** Purges expired volumes of a host, and reports all of its volumes. */
export class VolumeGc {
  readonly #options: VolumeGcOptions;
  readonly #wakeup: Wakeup;
  #checked: CheckedVolumes | undefined;
  #sent: CheckedVolumes | undefined;
  /** Trashed volumes whose purge a user requested. */
  readonly #purges = new Set<string>();
  readonly #reasons = new Map<string, Reason>();
  /** Starts of retention to store, by volume. */
  readonly #retentionStarts = new Map<string, number>();
  /** The size in the template of each set with a volume. */
  readonly #templateBytes = new Map<string, number>();
  #controlPlaneTimeMs = Number.NEGATIVE_INFINITY;

  constructor(options: VolumeGcOptions) {
    this.#options = options;
    this.#wakeup = new Wakeup(options.clock);
  }

  /** Checks the volumes soon, because a set has changed. */
  checkSoon(): void {
    this.#wakeup.notify();
  }

  /**
   * Applies an answer of the control plane and the desired sets after it. Nothing is purged before
   * the first answer.
   */
  updateRetention(answer: SyncResult, desired: readonly OrderedSet[]): void {
    this.#templateBytes.clear();
    for (const { setId, desired: state, template } of desired)
      if (state !== "deleted" && template?.volume)
        this.#templateBytes.set(setId, template.volume.sizeBytes);
    const wanted = desired.flatMap((set) =>
      set.desired === "deleted" ? [] : (set.restoreVolumeId ?? []),
    );
    this.#controlPlaneTimeMs = readTimeMs(answer);
    this.#options.port.updateRetention({
      controlPlaneTimeMs: this.#controlPlaneTimeMs,
      wantedVolumeIds: new Set(wanted),
    });
    this.requestPurges(answer.purgeVolumes);
  }

  /** Other hosts that have volumes on this machine. Null before the first check. */
  get otherHosts(): OtherHostVolumes[] | null {
    return this.#checked?.otherHosts ?? null;
  }

  /**
   * Bytes of live volumes beyond their templates: LVM rounds sizes up to extents. The control plane
   * books the size of the template, so the host must not offer these bytes.
   */
  get excessBytes(): number {
    let excessBytes = 0;
    for (const { setId, state, sizeBytes } of this.#checked?.volumes ?? []) {
      const bookedBytes = this.#templateBytes.get(setId);
      if (state === "live" && bookedBytes !== undefined)
        excessBytes += Math.max(0, sizeBytes - bookedBytes);
    }
    return excessBytes;
  }

  /**
   * Begins a sync. The returned function takes its answer, whose time starts the retention of the
   * volumes that were in the trash before the sync. So no clock of this host counts (I16).
   */
  beginSync(): (answer: SyncResult) => void {
    const waiting = (this.#checked?.volumes ?? []).filter(
      ({ state, expiresAtMs }) => state === "trashed" && expiresAtMs === undefined,
    );
    return (answer) => {
      const startMs = Date.parse(answer.databaseTime ?? answer.serverTime);
      for (const { volumeId } of waiting) this.#retentionStarts.set(volumeId, startMs);
      if (waiting.length > 0) this.#wakeup.notify();
    };
  }

  /**
   * Requests the destruction of trashed volumes before their expiry. The agent retries until they
   * are deleted.
   */
  requestPurges(volumeIds: readonly string[]): void {
    if (volumeIds.length === 0) return;
    for (const volumeId of volumeIds) this.#purges.add(volumeId);
    this.#wakeup.notify();
  }

  /** The volumes to report; null if they equal the last report. */
  takeChanges(): {
    volumes: (ReportedVolume | UnreadableVolume)[] | null;
    onArrived: () => void;
  } {
    const checked = this.#checked;
    if (!checked || !hasChanged(checked, this.#sent))
      return { volumes: null, onArrived: () => undefined };
    const unreadable = checked.unreadable.map((volumeId) => ({ volumeId }));
    return {
      volumes: [...checked.volumes.map(toReport), ...unreadable],
      onArrived: () => {
        this.#sent = checked;
      },
    };
  }

  /** Reports all volumes again, even if none has changed. */
  forceResend(): void {
    this.#sent = undefined;
  }

  async run(signal: AbortSignal): Promise<void> {
    const { clock, log, intervalMs, onChange } = this.#options;
    while (!signal.aborted) {
      try {
        await this.#checkVolumes(signal);
        if (this.takeChanges().volumes) onChange();
      } catch (error) {
        if (isAborted(signal)) return;
        log.warn({ err: error }, "volume garbage collection failed");
      }
      if (await this.#wakeup.wait(intervalMs, signal)) await sleep(clock, CHECK_DELAY_MS, signal);
    }
  }

  async #checkVolumes(signal: AbortSignal): Promise<void> {
    const { port, log } = this.#options;
    await this.#startRetentions(signal);
    let listing = await port.listAll(signal);
    const due = listing.volumes.filter(
      ({ volumeId, state, expiresAtMs }) =>
        state === "trashed" &&
        (this.#purges.has(volumeId) || (expiresAtMs ?? Infinity) <= this.#controlPlaneTimeMs),
    );
    this.#reasons.clear();
    for (const { volumeId } of due) {
      try {
        if (this.#purges.has(volumeId)) await port.expire(volumeId, signal);
        await port.purge(volumeId, signal);
      } catch (error) {
        if (isAborted(signal)) return;
        const { reason } = toStepFailure(error, "remove");
        if (reason.code === "volume-refused") continue; // retained, or in use by a set
        this.#reasons.set(volumeId, reason);
        log.warn({ err: error, volumeId }, "cannot purge the volume");
      }
    }
    if (due.length > 0) listing = await port.listAll(signal);
    const { volumes, unreadable, otherHosts } = listing;
    // A volume that a set uses again must survive that set: its purge was meant for the earlier
    // trash.
    const trashed = new Set(
      volumes.flatMap(({ volumeId, state }) => (state === "trashed" ? volumeId : [])),
    );
    for (const volumeId of this.#purges) if (!trashed.has(volumeId)) this.#purges.delete(volumeId);
    if (JSON.stringify(otherHosts) !== JSON.stringify(this.otherHosts ?? []))
      log.warn({ otherHosts }, "the machine has volumes of other hosts, which this host ignores");
    const tracked = volumes.flatMap((volume) => this.#track(volume));
    this.#checked = { volumes: tracked, unreadable, otherHosts };
  }

  /** A start that fails repeats with a later time: its volume is still without an expiry. */
  async #startRetentions(signal: AbortSignal): Promise<void> {
    const { port, log } = this.#options;
    for (const [volumeId, startMs] of this.#retentionStarts) {
      this.#retentionStarts.delete(volumeId);
      try {
        await port.startRetention(volumeId, startMs, signal);
      } catch (error) {
        if (isAborted(signal)) return;
        log.warn({ err: error, volumeId }, "cannot start the retention of a trashed volume");
      }
    }
  }

  /** Omits unfinished volumes. */
  #track({ state, ...volume }: LocalVolume): TrackedVolume[] {
    const reason = this.#reasons.get(volume.volumeId) ?? null;
    return state === "new" ? [] : [{ ...volume, state, reason }];
  }
}

/**
 * A time of the control plane that is not later than the state that its answer describes. The
 * answer of an earlier release to a long poll may describe the time when the poll began.
 */
function readTimeMs({ databaseTime, serverTime }: SyncResult): number {
  if (databaseTime !== undefined) return Date.parse(databaseTime);
  return Date.parse(serverTime) - SYNC_WAIT_MS_MAX;
}

function hasChanged(
  { volumes, unreadable }: CheckedVolumes,
  sent: CheckedVolumes | undefined,
): boolean {
  if (!sent || sent.unreadable.join() !== unreadable.join()) return true;
  if (sent.volumes.length !== volumes.length) return true;
  return volumes.some((volume, position) => {
    const before = sent.volumes[position];
    if (!before) return true;
    const { usedBytes, ...now } = volume;
    const { usedBytes: usedBefore, ...then } = before;
    const moved = Math.abs((usedBytes ?? 0) - (usedBefore ?? 0));
    return (
      JSON.stringify(now) !== JSON.stringify(then) ||
      (usedBytes === undefined) !== (usedBefore === undefined) ||
      moved > volume.sizeBytes * REPORTED_CHANGE_SHARE
    );
  });
}

function toReport({ trashedAtMs, expiresAtMs, ...volume }: TrackedVolume): ReportedVolume {
  return {
    ...volume,
    usedBytes: volume.usedBytes ?? null,
    trashedAt: isoOrNull(trashedAtMs),
    expiresAt: isoOrNull(expiresAtMs),
  };
}

function isoOrNull(atMs: number | undefined): string | null {
  return atMs === undefined ? null : new Date(atMs).toISOString();
}
