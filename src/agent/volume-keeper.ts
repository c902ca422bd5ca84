import {
  type DesiredSet,
  SYNC_WAIT_MS_MAX,
  type Sync,
  type SyncResult,
  VOLUMES_PER_HOST_MAX,
} from "../contracts/agent-protocol/protocol.ts";
import type { Log } from "../lib/log.ts";
import { isAborted } from "./aborted.ts";
import { type Clock, delay } from "./clock.ts";
import type { Reason } from "../contracts/common/primitives.ts";
import type { LocalVolume, VolumePort } from "./ports/volume-port.ts";
import { failureOf } from "./step-failure.ts";
import { Wakeup } from "./wakeup.ts";

/** Looks that were asked for one by one are one look, this much later. */
const LOOK_DELAY_MS = 250;
/** A volume's use is news when it moved by more than this share of the volume. */
const USE_SHARE = 0.01;

export interface VolumeKeeperOptions {
  port: VolumePort;
  clock: Clock;
  log: Log;
  /** All volumes are looked at this often, and what is expired is purged. */
  intervalMs: number;
  /** There is something new to report. */
  onNews: () => void;
}

type Report = NonNullable<Sync["volumes"]>;

interface KeptVolume extends LocalVolume {
  state: "live" | "trashed";
  /** Why it was not purged when it was to be. */
  reason: Reason | null;
}

/** Looks after the volumes of a host that are no set's business any more, and knows what to report of all of them. */
export class VolumeKeeper {
  readonly #options: VolumeKeeperOptions;
  readonly #bell: Wakeup;
  #volumes: KeptVolume[] | undefined;
  #sent: KeptVolume[] | undefined;
  /** Trashed volumes whose purge a person asked for. */
  readonly #purges = new Set<string>();
  readonly #reasons = new Map<string, Reason>();

  constructor(options: VolumeKeeperOptions) {
    this.#options = options;
    this.#bell = new Wakeup(options.clock);
  }

  /** Something of a set changed: its volume may have, too. */
  lookSoon(): void {
    this.#bell.ring();
  }

  /** The control plane was heard, and `desired` is what it wants since: only then may anything be purged. */
  heed({ serverTime, purgeVolumes }: SyncResult, desired: readonly DesiredSet[]): void {
    const wanted = desired.flatMap((set) =>
      set.desired === "deleted" ? [] : (set.restoreVolumeId ?? []),
    );
    this.#options.port.heed({
      // An answer that was waited for may say what was so when the wait began.
      atMs: Date.parse(serverTime) - SYNC_WAIT_MS_MAX,
      wantedVolumeIds: new Set(wanted),
    });
    this.askForPurges(purgeVolumes);
  }

  /** Destroys trashed volumes before their time. Repeated until they are gone. */
  askForPurges(volumeIds: readonly string[]): void {
    if (volumeIds.length === 0) return;
    for (const volumeId of volumeIds) this.#purges.add(volumeId);
    this.#bell.ring();
  }

  /** What is to be reported; null when that is what was reported last. */
  takeNews(): { volumes: Report | null; onArrived: () => void } {
    const volumes = this.#volumes;
    if (!volumes || !isNews(volumes, this.#sent))
      return { volumes: null, onArrived: () => undefined };
    return {
      volumes: volumes.map(toReport),
      onArrived: () => {
        this.#sent = volumes;
      },
    };
  }

  async run(signal: AbortSignal): Promise<void> {
    const { clock, log, intervalMs, onNews } = this.#options;
    while (!signal.aborted) {
      try {
        await this.#look(signal);
        if (this.takeNews().volumes) onNews();
      } catch (error) {
        if (isAborted(signal)) return;
        log.warn({ err: error }, "volumes not looked after");
      }
      if (await this.#bell.wait(intervalMs, signal)) await delay(clock, LOOK_DELAY_MS, signal);
    }
  }

  async #look(signal: AbortSignal): Promise<void> {
    const { port, clock, log } = this.#options;
    let volumes = await port.list(signal);
    const due = volumes.filter(
      ({ volumeId, state, expiresAtMs }) =>
        state === "trashed" &&
        (this.#purges.has(volumeId) || (expiresAtMs ?? Infinity) <= clock.nowMs()),
    );
    this.#reasons.clear();
    for (const { volumeId } of due) {
      try {
        if (this.#purges.has(volumeId)) await port.expire(volumeId, signal);
        await port.purge(volumeId, signal);
      } catch (error) {
        if (isAborted(signal)) return;
        const { reason } = failureOf(error, "remove");
        if (reason.code === "volume-refused") continue; // it is kept, for now or as somebody's
        this.#reasons.set(volumeId, reason);
        log.warn({ err: error, volumeId }, "volume not purged");
      }
    }
    if (due.length > 0) volumes = await port.list(signal);
    // What is a set's again is not to be purged when that set goes: it was asked for another trash.
    const trashed = new Set(
      volumes.flatMap(({ volumeId, state }) => (state === "trashed" ? volumeId : [])),
    );
    for (const volumeId of this.#purges) if (!trashed.has(volumeId)) this.#purges.delete(volumeId);
    this.#volumes = volumes.flatMap((volume) => this.#keep(volume)).slice(0, VOLUMES_PER_HOST_MAX);
  }

  /** What was never finished is nobody's yet. */
  #keep({ state, ...volume }: LocalVolume): KeptVolume[] {
    const reason = this.#reasons.get(volume.volumeId) ?? null;
    return state === "new" ? [] : [{ ...volume, state, reason }];
  }
}

function isNews(volumes: readonly KeptVolume[], sent: readonly KeptVolume[] | undefined): boolean {
  if (sent?.length !== volumes.length) return true;
  return volumes.some((volume, position) => {
    const before = sent[position];
    if (!before) return true;
    const { usedBytes, ...now } = volume;
    const { usedBytes: usedBefore, ...then } = before;
    const moved = Math.abs((usedBytes ?? 0) - (usedBefore ?? 0));
    return (
      JSON.stringify(now) !== JSON.stringify(then) ||
      (usedBytes === undefined) !== (usedBefore === undefined) ||
      moved > volume.sizeBytes * USE_SHARE
    );
  });
}

function toReport({ trashedAtMs, expiresAtMs, ...volume }: KeptVolume): Report[number] {
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
