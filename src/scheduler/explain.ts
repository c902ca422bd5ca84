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

/** Reasons that were stored may be of another version of Berth: they are shown as they are. */
function sentence(reason: string): string {
  return isKnown(reason) ? sentences[reason] : reason;
}

function isKnown(reason: string): reason is RejectReason {
  return (rejectReasons as readonly string[]).includes(reason);
}
