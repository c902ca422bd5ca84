import type { RemovalReason } from "../../contracts/api/dry-run.ts";
import type { DesiredSetState, SetState } from "../../contracts/api/sets.ts";
import type { SpreadConstraint } from "./model.ts";
import { type SpreadCounts, type TreeSet, RemovalTree } from "./removal-tree.ts";

/** A replica that a scale-in may remove. */
export interface ScaleInSet {
  id: string;
  /** Null while the set waits for a host. */
  hostId: string | null;
  state: SetState;
  desired: DesiredSetState;
  isReady: boolean;
  /** The set moves to another host already. */
  isMoving: boolean;
  /** A user stopped the set, and its host has data of its volume. */
  isStoppedWithData: boolean;
  /** The set restores a volume from the trash, and was never ready. */
  isRestoring: boolean;
  createdAtMs: number;
}

export interface ScaleInHost {
  id: string;
  zone: string;
  rack: string;
  /** False on a cordoned or draining host. */
  acceptsSets: boolean;
}

export interface ScaleInRemoval {
  setId: string;
  hostId: string | null;
  reason: RemovalReason;
}

/**
 * Chooses `count` sets of one service for a scale-in, in order, or all sets if there are fewer. The
 * order of the choice:
 *
 * 1. Sets that do not serve: pending, then failed, then not ready, then stopped by a user. A
 *    stopped set with volume data ranks like one that serves, because the data may be the reason
 *    for the stop.
 * 2. Sets on cordoned or draining hosts, and sets that move already, while the spread permits it.
 * 3. Sets in the domain with the most sets.
 * 4. The newest sets.
 * 5. Sets that restore a volume, as a user has just requested them.
 *
 * Among the sets of step 1 the choice keeps the spread as far as it can. Among the others it makes
 * two guarantees for the first spread rule of the service. Required rules come before preferred
 * ones, and then zone, rack, host. If maxSkew holds before the removal, it holds after it. No
 * domain becomes empty while another has two sets. The other rules are best effort, because rules
 * can contradict each other.
 *
 * `hosts` contains at least the hosts of the sets. Pure and independent of the order of its input;
 * O(n log n) for n sets.
 */
export function chooseScaleInRemovals(
  sets: readonly ScaleInSet[],
  hosts: readonly ScaleInHost[],
  spread: readonly SpreadConstraint[],
  count: number,
): ScaleInRemoval[] {
  const hostById = new Map(hosts.map((host) => [host.id, host]));
  const candidates = sets
    .map((set) => toCandidate(set, set.hostId === null ? undefined : hostById.get(set.hostId)))
    .sort(byPreference)
    .map((candidate, rank) => ({ ...candidate, rank }));
  const counts = countDomains(
    candidates.filter(({ hostId }) => hostId !== null),
    spread,
  );
  const removals: ScaleInRemoval[] = [];
  for (const tier of tiers) {
    const inTier = candidates.filter((candidate) => candidate.tier === tier);
    const remaining = count - removals.length;
    if (remaining <= 0) break;
    removals.push(...chooseFromTier(inTier, counts, remaining));
  }
  return removals;
}

const tiers = ["pending", "failed", "not-ready", "stopped", "serving", "restoring"] as const;
type Tier = (typeof tiers)[number];

interface Candidate extends TreeSet {
  id: string;
  tier: Tier;
  createdAtMs: number;
  zone: string;
  rack: string;
}

function toCandidate(set: ScaleInSet, host: ScaleInHost | undefined): Candidate {
  const zone = host?.zone ?? "";
  return {
    id: set.id,
    hostId: set.hostId,
    tier: getTier(set),
    isLeaving: set.isMoving || host?.acceptsSets === false,
    createdAtMs: set.createdAtMs,
    zone,
    rack: `${zone}\n${host?.rack ?? ""}`, // a rack is one within its zone
    rank: 0,
  };
}

function getTier(set: ScaleInSet): Tier {
  if (set.hostId === null) return "pending";
  if (set.isRestoring) return "restoring";
  if (set.isStoppedWithData) return "serving";
  if (set.desired === "stopped") return "stopped";
  if (set.state === "failed") return "failed";
  return set.isReady ? "serving" : "not-ready";
}

function byPreference(a: Candidate, b: Candidate): number {
  if (a.isLeaving !== b.isLeaving) return a.isLeaving ? -1 : 1;
  if (a.createdAtMs !== b.createdAtMs) return b.createdAtMs - a.createdAtMs;
  return a.id > b.id ? -1 : 1;
}

/**
 * One count for each rule, required rules first, then coarse ones; sets per domain, over all sets
 * that remain.
 */
function countDomains(
  hosted: readonly Candidate[],
  spread: readonly SpreadConstraint[],
): SpreadCounts<Candidate>[] {
  const getDomain = {
    zone: (set: Candidate) => set.zone,
    rack: (set: Candidate) => set.rack,
    host: (set: Candidate) => set.hostId ?? "",
  };
  const coarseFirst = (["zone", "rack", "host"] as const).flatMap(
    (by) => spread.find((candidate) => candidate.by === by) ?? [],
  );
  const isPreferred = ({ mode }: SpreadConstraint) => Number(mode === "preferred");
  const ordered = coarseFirst.toSorted((a, b) => isPreferred(a) - isPreferred(b));
  return ordered.map(({ by, maxSkew }) => {
    const setsByDomain = countBy(hosted, getDomain[by]);
    const domainsBySets = countBy(setsByDomain.values(), (sets) => sets);
    const setsMax = Math.max(0, ...domainsBySets.keys());
    return { maxSkew, getDomain: getDomain[by], setsByDomain, domainsBySets, setsMax };
  });
}

function countBy<T, K>(items: Iterable<T>, getKey: (item: T) => K): Map<K, number> {
  const counts = new Map<K, number>();
  for (const item of items) counts.set(getKey(item), (counts.get(getKey(item)) ?? 0) + 1);
  return counts;
}

function chooseFromTier(
  candidates: readonly Candidate[],
  counts: readonly SpreadCounts<Candidate>[],
  wanted: number,
): ScaleInRemoval[] {
  const [first] = candidates;
  if (!first) return [];
  if (first.tier === "pending") {
    return candidates
      .slice(0, wanted)
      .map(({ id, hostId }) => ({ setId: id, hostId, reason: "pending" }));
  }
  const keepsSpread = first.tier === "serving";
  const tree = new RemovalTree(candidates, counts, keepsSpread);
  const removals: ScaleInRemoval[] = [];
  while (removals.length < wanted) {
    const set = tree.takeNext();
    if (!set) break;
    removals.push({ setId: set.id, hostId: set.hostId, reason: getReason(set, counts.length > 0) });
  }
  return removals;
}

function getReason(set: Candidate, hasSpread: boolean): RemovalReason {
  if (set.tier === "restoring") return "not-ready";
  if (set.tier !== "serving") return set.tier;
  if (set.isLeaving) return "leaving-host";
  return hasSpread ? "spread" : "newest";
}
