import type { UpdateDirection } from "../../contracts/api/rollouts.ts";
import type { SetTemplate } from "../../contracts/api/set-template.ts";
import type { Queryable } from "../../db/postgres/open-postgres.ts";
import {
  type HostImageRow,
  insertHostImages,
  listHostImages,
  listPrefetchingHosts,
  type NewHostImage,
} from "../../db/queries/rollouts/host-images.ts";
import type { HostImages } from "../../scheduler/rollout/rollout-input.ts";

/** The images that a rollout changes: those of either revision that the other one lacks. */
export interface ChangedImages {
  to: readonly string[];
  from: readonly string[];
}

export function compareImages(
  from: SetTemplate | undefined,
  to: SetTemplate | undefined,
): ChangedImages {
  const before = new Set(from?.containers.map(({ image }) => image));
  const after = new Set(to?.containers.map(({ image }) => image));
  return {
    to: [...after].filter((image) => !before.has(image)),
    from: [...before].filter((image) => !after.has(image)),
  };
}

/** Answers whether hosts have the images of a direction. */
export class HostImageReader {
  readonly #images: ChangedImages;
  readonly #prefetching: ReadonlySet<string>;
  readonly #rows: readonly HostImageRow[];

  private constructor(
    images: ChangedImages,
    prefetching: ReadonlySet<string>,
    rows: readonly HostImageRow[],
  ) {
    this.#images = images;
    this.#prefetching = prefetching;
    this.#rows = rows;
  }

  static async read(
    q: Queryable,
    rolloutId: string,
    images: ChangedImages,
    hostIds: readonly string[],
  ): Promise<HostImageReader> {
    const prefetching = await listPrefetchingHosts(q, hostIds);
    const rows = await listHostImages(q, rolloutId, [...prefetching]);
    return new HostImageReader(images, prefetching, rows);
  }

  /** A host whose agent pulls nothing in advance counts as one that has the images. */
  stateOf(hostId: string | null, direction: UpdateDirection): HostImages {
    const references = this.#images[direction];
    if (hostId === null || references.length === 0 || !this.#prefetching.has(hostId))
      return { state: "pulled" };
    const rows = this.#rows.filter(
      (row) => row.hostId === hostId && references.includes(row.reference),
    );
    if (rows.some(({ state, isPermanent }) => state === "failed" && isPermanent))
      return { state: "failed" };
    if (rows.length < references.length) return { state: "missing" };
    const open = rows.filter(({ state }) => state !== "pulled");
    if (open.length === 0) return { state: "pulled" };
    // An agent repeats a pull that failed for the time being.
    return { state: "requested", atMs: Math.min(...open.map((row) => row.requestedAtMs)) };
  }
}

/**
 * Requests the images of the next sets, and retains those of the other revision for a return. The
 * caller has locked the hosts.
 */
export async function prefetchImages(
  q: Queryable,
  about: { rolloutId: string; tenantId: string },
  images: ChangedImages,
  requests: readonly { hostId: string; direction: UpdateDirection }[],
): Promise<void> {
  const rows = requests.flatMap(({ hostId, direction }): NewHostImage[] => [
    ...images[direction].map((reference) => ({ hostId, reference, purpose: "pull" as const })),
    ...images[direction === "to" ? "from" : "to"].map((reference) => ({
      hostId,
      reference,
      purpose: "retain" as const,
    })),
  ]);
  await insertHostImages(q, about, rows);
}
