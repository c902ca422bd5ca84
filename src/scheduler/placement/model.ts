/**
 * The input and the output of the planner, as plain data.
 *
 * All amounts are integers below 2^53: millicores and bytes. Lists may have any order. The planner
 * sorts them by id, so that the order never decides a placement.
 */

import type {
  NetworksFeature,
  PublishingFeature,
} from "../../contracts/agent-protocol/agent-features.ts";
import type { AddressFault } from "../../contracts/api/networks.ts";

/** The dimensions of sets and hosts, in the order in which a shortage is reported. */
export const dimensions = ["cpuMillis", "memoryBytes", "volumeBytes", "rootfsBytes"] as const;
export type Dimension = (typeof dimensions)[number];

export type Resources = Record<Dimension, number>;

/**
 * The limits for the hosts of a pool, in integer percent. An overcommit of 100 permits no
 * overcommit.
 */
export interface PoolPolicy {
  pool: string;
  /** Booked amounts may reach this percentage of the allocatable amounts. */
  overcommitPercent: Resources;
  /**
   * Reported use plus bookings since the report may reach this percentage of the allocatable
   * amounts.
   */
  highWaterPercent: Resources;
}

/** A host with a taint takes only sets that tolerate it. Key and value must match. */
export interface Taint {
  key: string;
  value: string;
}

/** Only a `ready` host takes new sets. The other values are the reasons against it. */
export type HostReadiness =
  | "ready"
  | "cordoned"
  | "draining"
  | "lost"
  | "unhealthy"
  | "self-test-failed";

export interface HostSnapshot {
  id: string;
  pool: string;
  zone: string;
  rack: string;
  labels: Readonly<Record<string, string>>;
  taints: readonly Taint[];
  readiness: HostReadiness;
  /** The amounts of the machine for sets, before overcommit. */
  allocatable: Resources;
  /** The sum of the bookings in Postgres. */
  allocated: Resources;
  /**
   * The last measured usage of all processes, and its time (epoch ms by the database clock).
   * Undefined without a report. The report may be one interval old. `unreported` contains the
   * bookings that it does not measure.
   */
  reported: { used: Resources; atMs: number } | undefined;
  /** Booked amounts that the last report does not measure yet. See unreportedAmounts. */
  unreported: Resources;
  /** Bytes of trashed volumes. They count as free, because the host can purge them. */
  reclaimableVolumeBytes: number;
  /** Image references on the host. */
  images: readonly string[];
  /** The features of the host's agent. */
  features: readonly string[];
  /** The number of sets above which no container starts on the machine. Infinity if unknown. */
  setsMax: number;
}

/**
 * A set on a host, or one that leaves it. Spread and affinity count both. Spread does not count a
 * set whose replacement has a host.
 */
export interface PlacedSet {
  id: string;
  serviceId: string;
  hostId: string;
}

/** The numbers of sets in two eligible domains may differ by at most maxSkew. */
export interface SpreadConstraint {
  by: "zone" | "rack" | "host";
  maxSkew: number;
  /**
   * `required` (default) rejects a set rather than exceed maxSkew. `preferred` exceeds it where no
   * other host fits, by as few sets as possible.
   */
  mode?: "required" | "preferred" | undefined;
}

/** The feature of a networked host. On other hosts a set needs no address. */
export const NETWORKS_FEATURE: NetworksFeature = "networks";

/** The feature of a host that can publish ports of its sets. */
export const PUBLISHING_FEATURE: PublishingFeature = "published-ports";

/** A port of the host that a template fixes. Only one set on each host can have it. */
export interface HostPortDemand {
  /** Protocol and port, such as "tcp/80". */
  key: string;
  /** The ids of the hosts on which a set has it: the same in all requests of a plan. */
  takenOn: readonly string[];
}

/** A subnet from which a set gets an address on each networked host. */
export interface SubnetSupply {
  id: string;
  /** The number of free addresses: the same in all requests of a plan that name the subnet. */
  free: number;
}

export interface PlacementConstraints {
  /** pack prefers the fullest hosts, and spread prefers the emptiest. */
  strategy: "pack" | "spread";
  spread: readonly SpreadConstraint[];
  /**
   * Ids of services whose sets must not share a host with this one. The own id permits one set on
   * each host. The rule is symmetric. The planner applies it between the requests of one plan. The
   * caller adds services whose existing sets forbid this one.
   */
  antiAffinity: readonly string[];
  /** Ids of preferred neighbor services: on the same host, else rack, else zone. */
  affinity: readonly string[];
  /** Required labels of the host. */
  hostLabels: Readonly<Record<string, string>>;
  tolerations: readonly Taint[];
  /** The required host pool. */
  pool: string;
  /** The features of agents that the template needs. */
  features: readonly string[];
  /** Each placement on a host with NETWORKS_FEATURE gets one address of each of these subnets. */
  subnets: readonly SubnetSupply[];
  /** The host ports that the template fixes. */
  hostPorts: readonly HostPortDemand[];
  /** Set if no host with NETWORKS_FEATURE can take the set. */
  addressFault?: AddressFault | undefined;
  /**
   * The number of departing sets that spread no longer counts, by host id. Such a set is ordered
   * deleted, or its replacement has a host.
   */
  uncountedSets: ReadonlyMap<string, number>;
}

export interface PlacementRequest {
  setId: string;
  serviceId: string;
  resources: Resources;
  /** Higher priorities first, then by set id. */
  priority: number;
  /** All sets of a service and revision share one object, because the planner caches by object. */
  constraints: PlacementConstraints;
  images: readonly string[];
  /** Hosts that this set must not use, such as one where its start failed. */
  avoidHostIds: readonly string[];
  /**
   * The host of the set that this one replaces. From this placement on, spread does not count that
   * set.
   */
  replacesOnHostId?: string | undefined;
}

export interface PlanPolicy {
  /** Each plan names the version of the policy behind its decisions. */
  version: number;
  pools: readonly PoolPolicy[];
  /** A host with an older report takes no new sets. */
  reportAgeMaxMs: number;
  /**
   * The maximum number of sets on a host. It bounds the desired state and the reports of the host.
   * The limits of its machine may admit fewer.
   */
  setsPerHostMax: number;
}

/** Stable codes. Berth stores, shows and counts them. */
export const rejectReasons = [
  "host-cordoned",
  "host-draining",
  "host-lost",
  "host-unhealthy",
  "host-self-test-failed",
  "report-stale",
  "agent-too-old",
  "networks-unavailable",
  "publishing-unavailable",
  "other-pool",
  "label-mismatch",
  "taint-not-tolerated",
  "avoided",
  "too-many-sets",
  "subnet-exhausted",
  "host-port-taken",
  "addresses-unknown",
  "address-taken",
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
  /** An integer. A higher score is better, and comparable only within a plan. */
  score: number;
  /** The parts of the score by name, in the same unit. */
  because: Readonly<Record<string, number>>;
}

export interface Rejection {
  setId: string;
  /**
   * The number of hosts for each reason, most hosts first. A host counts for each of its reasons.
   */
  reasons: readonly { reason: RejectReason; hosts: number }[];
  hostsTotal: number;
}

/** A complete, immutable plan. Its executor makes no more choices. */
export interface Plan {
  policyVersion: number;
  seed: number;
  /** The time that decides the age of reports. */
  nowMs: number;
  placements: readonly Placement[];
  rejections: readonly Rejection[];
}
