import type { Log } from "../../../lib/log.ts";
import { AgentError } from "../../agent-error.ts";
import type { VolumePort } from "../../ports/volume-port.ts";
import type { BlockVolume } from "./block-store.ts";

type Known = Parameters<VolumePort["heed"]>[0];

/** Which trashed volumes may be destroyed, and when. */
export class Trash {
  readonly #purgesEarly: boolean;
  readonly #nowMs: () => number;
  #known: Known | undefined;

  constructor({ purgesEarly, nowMs }: { purgesEarly: boolean; nowMs: () => number }) {
    this.#purgesEarly = purgesEarly;
    this.#nowMs = nowMs;
  }

  heed(known: Known): void {
    this.#known = known;
  }

  /** The later one of this host's clock and the control plane's has passed it. */
  get expiredAtMs(): number {
    return Math.min(this.#nowMs(), this.#known?.atMs ?? Infinity);
  }

  /** Rejects what must not be purged on account of its age, and says why. */
  assertExpired(volume: BlockVolume): void {
    assertTrashed(volume);
    const { volumeId, tags } = volume;
    if (this.#isWanted(volumeId)) throw refused(`volume ${volumeId} is to be restored`);
    if (this.#isExpired(volume)) return;
    const { expiresAtMs = Infinity } = tags;
    const until = Number.isFinite(expiresAtMs) ? new Date(expiresAtMs).toISOString() : "for ever";
    throw refused(`volume ${volumeId} is kept until ${until}`);
  }

  /** Those that go when their room is needed, in this order: oldest first of what is expired, then, if they may, of the rest. */
  reclaimable(volumes: readonly BlockVolume[]): BlockVolume[] {
    const oldestFirst = volumes
      .filter(({ volumeId, tags }) => tags.state === "trashed" && !this.#isWanted(volumeId))
      .toSorted((a, b) => (a.tags.trashedAtMs ?? 0) - (b.tags.trashedAtMs ?? 0));
    const expired = oldestFirst.filter((volume) => this.#isExpired(volume));
    if (!this.#purgesEarly || !this.#known) return expired;
    return [...expired, ...oldestFirst.filter((volume) => !this.#isExpired(volume))];
  }

  #isWanted(volumeId: string): boolean {
    return this.#known?.wantedVolumeIds.has(volumeId) === true;
  }

  #isExpired({ tags }: BlockVolume): boolean {
    return this.#known !== undefined && (tags.expiresAtMs ?? Infinity) <= this.expiredAtMs;
  }
}

/**
 * Destroys as few volumes as make room for so many bytes, or none when all together would not. One that cannot be destroyed is
 * passed over.
 */
export async function makeRoom(
  wantedBytes: number,
  {
    candidates,
    freeBytes,
    destroy,
    log,
  }: {
    candidates: readonly BlockVolume[];
    freeBytes: () => Promise<number>;
    destroy: (volume: BlockVolume) => Promise<void>;
    log: Log;
  },
): Promise<void> {
  if (candidates.length === 0) return;
  let leftBytes = candidates.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  for (const volume of candidates) {
    const lackingBytes = wantedBytes - (await freeBytes());
    if (lackingBytes <= 0 || leftBytes < lackingBytes) return;
    leftBytes -= volume.sizeBytes;
    try {
      await destroy(volume);
    } catch (error) {
      if (!(error instanceof AgentError)) throw error;
      log.warn({ err: error, volumeId: volume.volumeId }, "volume not purged for its room");
    }
  }
}

export function assertTrashed({ volumeId, tags }: BlockVolume): void {
  if (tags.state === "trashed") return;
  // Its set may be on its way to the trash.
  throw refused(`volume ${volumeId} is in use by set ${tags.setId}`, { temporary: true });
}

export function refused(message: string, { temporary } = { temporary: false }): AgentError {
  return new AgentError("volume-refused", message, { phase: "volume", temporary });
}
