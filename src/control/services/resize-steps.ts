import { AppError } from "../../contracts/common/app-error.ts";
import type { FleetHostRow } from "../../db/queries/placement/fleet.ts";
import type { SetSize, SizedSet, WantedSize } from "../../db/queries/services/resizes.ts";
import type { PlanPolicy, Resources } from "../../scheduler/placement/model.ts";
import { toHostSnapshot } from "../placement/host-snapshot.ts";
import { reserveIfFits, computeGrowth } from "../placement/growth.ts";

/** Computes the size after a resize. Dimensions that the resize omits do not change. */
export function applyWanted(size: SetSize, wanted: WantedSize): SetSize {
  return {
    cpuMillis: wanted.cpuMillis ?? size.cpuMillis,
    memoryBytes: wanted.memoryBytes ?? size.memoryBytes,
    volumeBytes: wanted.volumeBytes ?? size.volumeBytes,
  };
}

/**
 * The size of a set after the resize. A set without a volume gets none, because its revision has
 * none. The current revision may have one.
 */
export function resizeSet({ size }: Pick<SizedSet, "size">, wanted: WantedSize): SetSize {
  const resized = applyWanted(size, wanted);
  return size.volumeBytes === 0 ? { ...resized, volumeBytes: 0 } : resized;
}

export function isSameSize(a: SetSize, b: SetSize): boolean {
  return (
    a.cpuMillis === b.cpuMillis &&
    a.memoryBytes === b.memoryBytes &&
    a.volumeBytes === b.volumeBytes
  );
}

/** A host without capacity for the growth of some of its sets. */
export interface HostWithoutCapacity {
  hostId: string;
  name: string;
  isLost: boolean;
  /** The dimension without capacity, and the amount that the first of the sets lacks. */
  why: string;
  sets: SizedSet[];
}

/**
 * Finds the sets that cannot grow on their hosts, as few as possible. Sets with the least growth
 * come first, then ids decide. Linear in hosts and sets, except for the sorting of each host's
 * sets.
 */
export function findHostsWithoutCapacity(
  rows: readonly FleetHostRow[],
  policy: PlanPolicy,
  sets: readonly SizedSet[],
  wanted: WantedSize,
): HostWithoutCapacity[] {
  const growing = growthsByHost(sets, wanted);
  return rows.flatMap((row) => {
    const host = toHostSnapshot(row);
    const short: SizedSet[] = [];
    let why = "";
    for (const { set, growth } of growing.get(row.id) ?? []) {
      const fit = reserveIfFits(host, policy, growth);
      if (fit.ok) continue;
      why ||= `${fit.reason} by ${fit.shortBy}`;
      short.push(set);
    }
    if (short.length === 0) return [];
    return [{ hostId: row.id, name: row.name, isLost: row.state === "lost", why, sets: short }];
  });
}

function growthsByHost(
  sets: readonly SizedSet[],
  wanted: WantedSize,
): Map<string, { set: SizedSet; growth: Resources }[]> {
  const byHost = new Map<string, { set: SizedSet; growth: Resources }[]>();
  for (const set of sets) {
    if (set.hostId === null || set.isDeparting) continue;
    const entry = { set, growth: computeGrowth(set, resizeSet(set, wanted)) };
    const entries = byHost.get(set.hostId);
    if (entries) entries.push(entry);
    else byHost.set(set.hostId, [entry]);
  }
  for (const entries of byHost.values()) {
    entries.sort(
      (a, b) =>
        a.growth.cpuMillis - b.growth.cpuMillis ||
        a.growth.memoryBytes - b.growth.memoryBytes ||
        (a.set.id < b.set.id ? -1 : 1),
    );
  }
  return byHost;
}

export function invalid(pointer: string, detail: string): AppError {
  return new AppError("invalid-request", { detail, errors: [{ pointer, detail }] });
}
