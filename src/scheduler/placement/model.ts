/**
 * What the scheduler core knows of the world. Plain data: everything comes in through it, and a plan goes out.
 *
 * All amounts are integers: millicores and bytes (below 2^53). All lists may come in any order; the core
 * sorts by id itself, so that a caller's order never decides a placement.
 */

/** The four dimensions of a set and of a host, in the order in which a shortage is named. */
export const dimensions = ["cpuMillis", "memoryBytes", "volumeBytes", "rootfsBytes"] as const;
export type Dimension = (typeof dimensions)[number];

export type Resources = Record<Dimension, number>;

/** How far hosts of a pool may be filled. Percent, integers. Overcommit 100 = no overcommit. */
export interface PoolPolicy {
  pool: string;
  /** Booked amounts may reach allocatable x this / 100. */
  overcommitPercent: Resources;
  /** Reported use plus what was placed since the report may reach allocatable x this / 100. */
  highWaterPercent: Resources;
}

/** A taint keeps every set away that does not tolerate it (same key, and same value). */
export interface Taint {
  key: string;
  value: string;
}

/** Why a host takes nothing new. `ready` is the only state in which it does. */
export type HostReadiness = "ready" | "cordoned" | "draining" | "lost" | "unhealthy";

export interface HostSnapshot {
  id: string;
  pool: string;
  zone: string;
  rack: string;
  labels: Readonly<Record<string, string>>;
  taints: readonly Taint[];
  readiness: HostReadiness;
  /** What sets may use of the machine before overcommit. */
  allocatable: Resources;
  /** The sum of what is booked on it, as Postgres has it. */
  allocated: Resources;
  /**
   * What the host last measured as used, all processes together, and when (epoch ms, the database's clock).
   * Undefined: never reported. May be a report interval behind; `placedSinceReport` bridges the gap.
   */
  reported: { used: Resources; atMs: number } | undefined;
  /** What was booked on it since the last report, so that a burst does not go by a stale measurement. */
  placedSinceReport: Resources;
  /** Bytes in trashed volumes: they can be purged when room is needed, so they count as free. */
  reclaimableVolumeBytes: number;
  /** Image references that the host already holds. */
  images: readonly string[];
}

/** A set that stands on a host already (or is leaving it): what spread and affinity look at. */
export interface PlacedSet {
  id: string;
  serviceId: string;
  hostId: string;
}

/** Sets of a service per domain may differ by at most maxSkew over eligible domains. */
export interface SpreadConstraint {
  by: "zone" | "rack" | "host";
  maxSkew: number;
}

export interface PlacementConstraints {
  /** pack fills hosts up one after the other; spread prefers the emptiest. */
  strategy: "pack" | "spread";
  spread: readonly SpreadConstraint[];
  /**
   * Service ids whose sets must not share a host with this one (its own id is allowed: one per host). It holds both ways,
   * whichever of the two asks for it: between requests of one plan the planner sees to that, and of services that have sets
   * already the caller names those here that forbid this one.
   */
  antiAffinity: readonly string[];
  /** Service ids to be near: same host, else rack, else zone is preferred, never required. */
  affinity: readonly string[];
  /** Labels that a host must carry. */
  hostLabels: Readonly<Record<string, string>>;
  tolerations: readonly Taint[];
  /** Only hosts of this pool. */
  pool: string;
}

export interface PlacementRequest {
  setId: string;
  serviceId: string;
  ask: Resources;
  /** Higher first; ties by set id. */
  priority: number;
  /** Shared by all sets of one service and revision: pass the same object, the core caches per object. */
  constraints: PlacementConstraints;
  images: readonly string[];
  /** Hosts not to use for this set, such as one on which its start failed. */
  avoidHostIds: readonly string[];
}

export interface PlanPolicy {
  /** Cited in every plan, so that a decision can be traced to the knobs it was made with. */
  version: number;
  pools: readonly PoolPolicy[];
  /** A host whose last report is older than this takes nothing new. */
  reportAgeMaxMs: number;
  /** A host with so many sets takes no more, however small they are: what a host can be told and can report is bounded. */
  setsPerHostMax: number;
}

/** Stable codes: they are stored, shown and counted. */
export const rejectReasons = [
  "host-cordoned",
  "host-draining",
  "host-lost",
  "host-unhealthy",
  "report-stale",
  "other-pool",
  "label-mismatch",
  "taint-not-tolerated",
  "avoided",
  "too-many-sets",
  "insufficient-cpu",
  "insufficient-memory",
  "insufficient-volume",
  "insufficient-rootfs",
  "above-high-water-cpu",
  "above-high-water-memory",
  "above-high-water-volume",
  "above-high-water-rootfs",
  "anti-affinity",
  "spread-zone",
  "spread-rack",
  "spread-host",
] as const;
export type RejectReason = (typeof rejectReasons)[number];

export interface Placement {
  setId: string;
  hostId: string;
  /** Integer; higher was better. Only comparable within one plan. */
  score: number;
  /** Score parts by name, in the same unit, for explain. */
  because: Readonly<Record<string, number>>;
}

export interface Rejection {
  setId: string;
  /** For each reason the number of hosts it held on; a host counts under every reason that it fails. Most hosts first. */
  reasons: readonly { reason: RejectReason; hosts: number }[];
  hostsTotal: number;
}

/** Immutable, and complete: nothing is left to choose for who carries it out. */
export interface Plan {
  policyVersion: number;
  seed: number;
  /** The instant that the age of reports was judged by. */
  nowMs: number;
  placements: readonly Placement[];
  rejections: readonly Rejection[];
}
