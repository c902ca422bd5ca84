import type { Log } from "../../../lib/log.ts";
import { AgentError } from "../../agent-error.ts";
import type { VolumePort } from "../../ports/volume-port.ts";
import type { BlockVolume } from "./block-store.ts";

type RetentionFacts = Parameters<VolumePort["updateRetention"]>[0];

/** Decides which trashed volumes may be destroyed, and when. */
export class Trash {
  readonly #purgesEarly: boolean;
  readonly #nowMs: () => number;
  #facts: RetentionFacts | undefined;

  constructor({ purgesEarly, nowMs }: { purgesEarly: boolean; nowMs: () => number }) {
    this.#purgesEarly = purgesEarly;
    this.#nowMs = nowMs;
  }

  updateRetention(facts: RetentionFacts): void {
    this.#facts = facts;
  }

  /**
   * The earlier of this host's time and the control plane's. A volume has expired when both have
   * passed its expiry.
   */
  get expiredAtMs(): number {
    return Math.min(this.#nowMs(), this.#facts?.controlPlaneTimeMs ?? Infinity);
  }

  /** Throws, with the reason, if the volume must not be purged yet. */
  assertExpired(volume: BlockVolume): void {
    assertTrashed(volume);
    const { volumeId, tags } = volume;
    if (this.#isWanted(volumeId)) throw refused(`volume ${volumeId} is about to be restored`);
    if (this.#isExpired(volume)) return;
    const { expiresAtMs = Infinity } = tags;
    const until = Number.isFinite(expiresAtMs) ? new Date(expiresAtMs).toISOString() : "forever";
    throw refused(`volume ${volumeId} is retained until ${until}`);
  }

  /**
   * Volumes to purge when a set needs space, in this order: expired ones, oldest first, then the
   * others if `purgesEarly`.
   */
  reclaimable(volumes: readonly BlockVolume[]): BlockVolume[] {
    const oldestFirst = volumes
      .filter(({ volumeId, tags }) => tags.state === "trashed" && !this.#isWanted(volumeId))
      .toSorted((a, b) => (a.tags.trashedAtMs ?? 0) - (b.tags.trashedAtMs ?? 0));
    const expired = oldestFirst.filter((volume) => this.#isExpired(volume));
    if (!this.#purgesEarly || !this.#facts) return expired;
    return [...expired, ...oldestFirst.filter((volume) => !this.#isExpired(volume))];
  }

  #isWanted(volumeId: string): boolean {
    return this.#facts?.wantedVolumeIds.has(volumeId) === true;
  }

  #isExpired({ tags }: BlockVolume): boolean {
    return this.#facts !== undefined && (tags.expiresAtMs ?? Infinity) <= this.expiredAtMs;
  }
}

/**
 * Destroys as few volumes as free the wanted bytes, or none if all of them together would not.
 * Skips a volume that cannot be destroyed.
 */
export async function freeSpace(
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
      log.warn({ err: error, volumeId: volume.volumeId }, "cannot purge the volume for its space");
    }
  }
}

export function assertTrashed({ volumeId, tags }: BlockVolume): void {
  if (tags.state === "trashed") return;
  // Its set may be in the process of trashing it.
  throw refused(`volume ${volumeId} is in use by set ${tags.setId}`, { temporary: true });
}

export function refused(message: string, { temporary } = { temporary: false }): AgentError {
  return new AgentError("volume-refused", message, { phase: "volume", temporary });
}
