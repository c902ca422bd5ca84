import type { RemovalReason } from "../../contracts/api/dry-run.ts";
import { type Placement, type RejectReason, rejectReasons, type Rejection } from "./model.ts";

/** What each reason means to people, after a number of hosts. */
const sentences: Record<RejectReason, string> = {
  "host-cordoned": "cordoned",
  "host-draining": "being drained",
  "host-lost": "lost",
  "host-unhealthy": "unhealthy (their Docker daemon does not answer)",
  "report-stale": "not heard of recently",
  "other-pool": "in another pool",
  "label-mismatch": "without a label that is asked for",
  "taint-not-tolerated": "with a taint that is not tolerated",
  avoided: "to be left, or avoided after a failed start",
  "too-many-sets": "with as many sets as a host may have",
  "insufficient-cpu": "with too little CPU left to book",
  "insufficient-memory": "with too little memory left to book",
  "insufficient-volume": "with too little volume space left to book",
  "insufficient-rootfs": "with too little root file system space left to book",
  "above-high-water-cpu": "too busy: measured CPU is near the high-water mark",
  "above-high-water-memory": "too full: measured memory is near the high-water mark",
  "above-high-water-volume": "too full: measured volume space is near the high-water mark",
  "above-high-water-rootfs":
    "too full: measured root file system space is near the high-water mark",
  "anti-affinity": "with a set that must not be near",
  "spread-zone": "in a zone that has its share already",
  "spread-rack": "in a rack that has its share already",
  "spread-host": "that have their share already",
};

const moreOvercommit = (part: string) =>
  `more hosts, a smaller set, or a higher overcommit of the pool (berth pool set POOL --overcommit ${part}=PERCENT)`;
const higherMark = (part: string) =>
  `less use of the hosts (berth top), or a higher mark of the pool (berth pool set POOL --high-water ${part}=PERCENT)`;

/** What would have a host take the set that did not for this reason. */
const remedies: Record<RejectReason, string> = {
  "host-cordoned": "a host that takes sets again (berth uncordon HOST)",
  "host-draining": "a host that takes sets again (berth uncordon HOST)",
  "host-lost": "the machine, its network or its agent brought back, or another host enrolled",
  "host-unhealthy": "a Docker daemon that answers: restart it on the host",
  "report-stale": "an agent that runs and reaches the API: see its log on the host",
  "other-pool": "a host in the pool that the service asks for, or another pool in its placement",
  "label-mismatch":
    "a host with that label (berth label HOST KEY=VALUE), or a placement that does not ask for it",
  "taint-not-tolerated":
    "a toleration in the service's placement, or the taint taken off (berth taint HOST KEY-)",
  avoided: "another host; where a start failed is tried again after the others",
  "too-many-sets": "more hosts",
  "insufficient-cpu": moreOvercommit("cpu"),
  "insufficient-memory": moreOvercommit("memory"),
  "insufficient-volume": moreOvercommit("volume"),
  "insufficient-rootfs": moreOvercommit("rootfs"),
  "above-high-water-cpu": higherMark("cpu"),
  "above-high-water-memory": higherMark("memory"),
  "above-high-water-volume": higherMark("volume"),
  "above-high-water-rootfs": higherMark("rootfs"),
  "anti-affinity": "more hosts, or another anti-affinity in the service's placement",
  "spread-zone": "hosts in other zones, or another spread in the service's placement",
  "spread-rack": "hosts in other racks, or another spread in the service's placement",
  "spread-host": "more hosts, or another spread in the service's placement",
};

const removalTexts: Record<RemovalReason, string> = {
  pending: "it waits for a host",
  failed: "it failed",
  "not-ready": "it is not ready",
  "leaving-host": "it leaves its host, or its host is cordoned or draining",
  spread: "its removal keeps the sets spread",
  newest: "it is the newest",
};

/** Why a scale-in removes a set before others. */
export function explainRemoval(reason: RemovalReason): string {
  return removalTexts[reason];
}

/** Why a set is where it is: the parts of its score, largest first. */
export function explainPlacement(placement: Pick<Placement, "score" | "because">): string {
  const parts = Object.entries(placement.because)
    .sort(([nameA, a], [nameB, b]) => b - a || (nameA < nameB ? -1 : 1))
    .map(([name, score]) => `${name} ${score}`);
  return `score ${placement.score}: ${parts.join(", ")}`;
}

/**
 * Why a set is nowhere. A reason that holds on every host is named as the cause, since mending anything else would not help;
 * otherwise all reasons are listed, as no single one is.
 */
export function explainRejection(rejection: Pick<Rejection, "reasons" | "hostsTotal">): string {
  const { hostsTotal } = rejection;
  if (hostsTotal === 0) return "There are no hosts yet: enrol one.";
  const causes = rejection.reasons.filter((reason) => reason.hosts === hostsTotal);
  const others = rejection.reasons.filter((reason) => reason.hosts < hostsTotal);
  const whole = causes.map(({ reason }) => sentence(reason));
  const partly = others.map(({ reason, hosts }) => `${hosts} ${sentence(reason)} (${reason})`);
  const head = `0 of ${hostsTotal} hosts fit`;
  if (causes.length === 0) return `${head}: ${partly.join(", ")}.`;
  const cause = `${head}: all are ${whole.join(", and ")} (${causes.map(({ reason }) => reason).join(", ")})`;
  return partly.length === 0 ? `${cause}.` : `${cause}; besides, ${partly.join(", ")}.`;
}

/**
 * What would help, most effective first: for each reason that holds on every host, as all of them must go, or else for the one that
 * holds on most.
 */
export function remediesOf({
  reasons,
  hostsTotal,
}: {
  /** As they were stored. */
  reasons: readonly { reason: string; hosts: number }[];
  hostsTotal: number;
}): string[] {
  const causes = reasons.filter((reason) => reason.hosts === hostsTotal);
  const [most] = reasons.toSorted((a, b) => b.hosts - a.hosts);
  const toMend = causes.length > 0 || !most ? causes : [most];
  return toMend.flatMap(({ reason }) => (isKnown(reason) ? remedies[reason] : []));
}

/** Reasons that were stored may be of another version of Berth: they are shown as they are. */
function sentence(reason: string): string {
  return isKnown(reason) ? sentences[reason] : reason;
}

function isKnown(reason: string): reason is RejectReason {
  return (rejectReasons as readonly string[]).includes(reason);
}
