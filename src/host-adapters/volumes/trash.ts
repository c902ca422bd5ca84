import type { Log } from "../../lib/log.ts";
import { AgentError } from "../../agent/base/agent-error.ts";
import type { VolumePort } from "../../agent/ports/volume-port.ts";
import type { BlockCapacity, BlockVolume, VolumeTags } from "./block-store.ts";

type RetentionFacts = Parameters<VolumePort["updateRetention"]>[0];

/** Decides which trashed volumes may be destroyed, and when. */
export class Trash {
  readonly #purgesEarly: boolean;
  #facts: RetentionFacts | undefined;

  constructor({ purgesEarly }: { purgesEarly: boolean }) {
    this.#purgesEarly = purgesEarly;
  }

  updateRetention(facts: RetentionFacts): void {
    this.#facts = facts;
  }

  /** The control plane's time. Throws before its first answer. */
  get controlPlaneTimeMs(): number {
    if (this.#facts) return this.#facts.controlPlaneTimeMs;
    throw refused("the control plane has not answered yet", { temporary: true });
  }

  /** Throws, with the reason, if the volume must not be purged yet. */
  assertExpired(volume: BlockVolume): void {
    assertTrashed(volume);
    const { volumeId, tags } = volume;
    if (this.#isWanted(volumeId)) throw refused(`volume ${volumeId} is about to be restored`);
    if (this.#isExpired(volume)) return;
    const retention = getRetention(tags);
    const until = retention && new Date(retention.expiresAtMs).toISOString();
    throw refused(`volume ${volumeId} is retained ${until ? `until ${until}` : "for now"}`);
  }

  /**
   * Volumes to purge when a set needs space, in this order: expired ones, oldest first, then the
   * others if `purgesEarly`.
   */
  reclaimable(volumes: readonly BlockVolume[]): BlockVolume[] {
    const oldestFirst = volumes
      .filter(({ volumeId, tags }) => tags.state === "trashed" && !this.#isWanted(volumeId))
      .toSorted((a, b) => getTrashedAtMs(a) - getTrashedAtMs(b));
    const expired = oldestFirst.filter((volume) => this.#isExpired(volume));
    if (!this.#purgesEarly || !this.#facts) return expired;
    return [...expired, ...oldestFirst.filter((volume) => !this.#isExpired(volume))];
  }

  #isWanted(volumeId: string): boolean {
    return this.#facts?.wantedVolumeIds.has(volumeId) === true;
  }

  #isExpired({ tags }: BlockVolume): boolean {
    const { expiresAtMs = Infinity } = getRetention(tags) ?? {};
    return this.#facts !== undefined && expiresAtMs <= this.#facts.controlPlaneTimeMs;
  }
}

/**
 * The retention of a trashed volume; undefined until it starts. Times that an earlier release took
 * from the host's clock do not count, because that clock may have been wrong.
 */
export function getRetention({
  state,
  trashedAtMs,
  expiresAtMs,
  expiryStampMs,
}: VolumeTags): { trashedAtMs: number; expiresAtMs: number } | undefined {
  if (state !== "trashed" || trashedAtMs === undefined || expiresAtMs === undefined)
    return undefined;
  return expiryStampMs === expiresAtMs ? { trashedAtMs, expiresAtMs } : undefined;
}

/** The tags of a retention that the control plane's clock has started. */
export function toRetention(trashedAtMs: number, expiresAtMs: number): Partial<VolumeTags> {
  return { trashedAtMs, expiresAtMs, expiryStampMs: expiresAtMs };
}

/** The tags of a volume whose retention has not started. */
export const noRetention = {
  trashedAtMs: undefined,
  expiresAtMs: undefined,
  expiryStampMs: undefined,
} as const satisfies Partial<VolumeTags>;

/** A volume whose retention has not started is the newest. */
function getTrashedAtMs({ tags }: BlockVolume): number {
  return getRetention(tags)?.trashedAtMs ?? Number.MAX_SAFE_INTEGER;
}

/**
 * Destroys as few volumes as free the wanted bytes, or none if all of them together would not. For
 * a creation it also destroys as many volumes as the store needs to record another one, or none if
 * they do not suffice. Skips a volume that cannot be destroyed.
 */
export async function freeSpace(
  wantedBytes: number,
  {
    isCreation,
    candidates,
    measure,
    destroy,
    log,
  }: {
    /** False for a growth, which the store records in the reserve of its metadata. */
    isCreation: boolean;
    candidates: readonly BlockVolume[];
    measure: () => Promise<Pick<BlockCapacity, "freeBytes" | "recordsLacking">>;
    destroy: (volume: BlockVolume) => Promise<void>;
    log: Log;
  },
): Promise<void> {
  if (candidates.length === 0) return;
  let leftBytes = sumSizes(candidates);
  for (const [position, volume] of candidates.entries()) {
    const { freeBytes, recordsLacking } = await measure();
    const lackingBytes = wantedBytes - freeBytes;
    const lackingRecords = isCreation ? recordsLacking : 0;
    if (lackingBytes <= 0 && lackingRecords <= 0) return;
    const leftRecords = candidates.length - position;
    if (leftBytes < lackingBytes || leftRecords < lackingRecords) return;
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

export function sumSizes(volumes: readonly BlockVolume[]): number {
  return volumes.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
}
