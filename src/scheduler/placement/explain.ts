import type { RemovalReason } from "../../contracts/api/dry-run.ts";
import { type Placement, type RejectReason, rejectReasons, type Rejection } from "./model.ts";

/** The short text of each reason, read after "0 of 12 hosts fit:" and before "on all 12". */
const findings: Record<RejectReason, string> = {
  "host-cordoned": "host cordoned",
  "host-draining": "host draining",
  "host-lost": "host lost",
  "host-unhealthy": "Docker daemon not responding",
  "host-self-test-failed": "self test of the agent failed",
  "report-stale": "no recent usage report",
  "agent-too-old": "agent too old for an option of the template",
  "networks-unavailable": "host connects no sets to networks",
  "publishing-unavailable": "host publishes no ports",
  "other-pool": "other pool",
  "label-mismatch": "required label missing",
  "taint-not-tolerated": "taint not tolerated",
  avoided: "host excluded for this set",
  "too-many-sets": "maximum number of sets",
  "subnet-exhausted": "no free address in a subnet of the set's networks",
  "host-port-taken": "a host port of the template is taken",
  "addresses-unknown": "addresses of sets unknown after a restore",
  "address-taken": "static address of the template taken by another set",
  "insufficient-cpu": "insufficient CPU",
  "insufficient-memory": "insufficient memory",
  "insufficient-volume": "insufficient volume space",
  "insufficient-rootfs": "insufficient root file system space",
  "above-high-water-cpu": "measured CPU plus this set above the high-water mark",
  "above-high-water-memory": "measured memory plus this set above the high-water mark",
  "above-high-water-volume": "measured volume space plus this set above the high-water mark",
  "above-high-water-rootfs":
    "measured root file system space plus this set above the high-water mark",
  "anti-affinity": "anti-affinity with a set on the host",
  "spread-zone": "too many sets in the zone",
  "spread-rack": "too many sets in the rack",
  "spread-host": "too many sets of the service",
};

/** The dimension of a shortage, under the name that `berth pool` uses. */
type PoolPart = "cpu" | "memory" | "volume" | "rootfs";
type Remedy = string | { raise: "overcommit" | "high-water"; part: PoolPart };

/** The action that makes a host accept a set that it rejects for this reason. */
const remedies: Record<RejectReason, Remedy> = {
  "host-cordoned": "uncordon a host (berth uncordon HOST)",
  "host-draining": "uncordon a host (berth uncordon HOST)",
  "host-lost": "restore the machine, its network or its agent, or enroll another host",
  "host-unhealthy": "restart the Docker daemon on the host",
  "host-self-test-failed": "read the reason of the host (berth get hosts HOST), and correct it",
  "report-stale": "check that the agent runs and reaches the API (its log is on the host)",
  "agent-too-old":
    "upgrade the agents (berth get hosts -o wide shows their versions), or omit the new options",
  "networks-unavailable":
    "install or start berth-network-driver on a host (docs/guides/prepare-hosts.md#networks-of-sets), or name only the network `default` in the template",
  "publishing-unavailable":
    "upgrade the agents, and read why a host publishes no ports (docs/endpoints.md#published-ports), or omit `publish` in the template",
  "other-pool": "add a host to the service's pool, or choose another pool in its placement",
  "label-mismatch": "label a host (berth label HOST KEY=VALUE), or change the service's hostLabels",
  "taint-not-tolerated":
    "add a toleration to the service's placement, or remove the taint (berth taint HOST KEY-)",
  avoided: "add hosts; a host where a start failed is used again after the others",
  "too-many-sets":
    "add hosts; if the host has the reason sets-limited (berth get hosts HOST), raise the limit of the machine that it names",
  "subnet-exhausted":
    "remove sets of the network, or change its pools and reservations (berth network update NETWORK); an address is free ten minutes after its set left",
  "host-port-taken":
    "add hosts, remove the other set with this port, or let Berth choose the port (`publish: true`)",
  "addresses-unknown":
    "wait until the agents have reported the addresses of their sets (docs/guides/backup.md)",
  "address-taken":
    "remove the set that has the address (berth network addresses NETWORK), or choose another address; an address is free ten minutes after its set left",
  "insufficient-cpu": { raise: "overcommit", part: "cpu" },
  "insufficient-memory": { raise: "overcommit", part: "memory" },
  "insufficient-volume": { raise: "overcommit", part: "volume" },
  "insufficient-rootfs": { raise: "overcommit", part: "rootfs" },
  "above-high-water-cpu": { raise: "high-water", part: "cpu" },
  "above-high-water-memory": { raise: "high-water", part: "memory" },
  "above-high-water-volume": { raise: "high-water", part: "volume" },
  "above-high-water-rootfs": { raise: "high-water", part: "rootfs" },
  "anti-affinity": "add hosts, or change the service's antiAffinity",
  "spread-zone":
    "add hosts in other zones, or raise maxSkew of the spread by zone in the service's placement, or give it the mode `preferred`",
  "spread-rack":
    "add hosts in other racks, or raise maxSkew of the spread by rack in the service's placement, or give it the mode `preferred`",
  "spread-host":
    "add hosts, or raise maxSkew of the spread by host in the service's placement, or give it the mode `preferred`",
};

const removalTexts: Record<RemovalReason, string> = {
  pending: "it waits for a host",
  failed: "it failed",
  "not-ready": "it is not ready",
  stopped: "a user stopped it",
  "leaving-host": "it leaves its host, or its host is cordoned or draining",
  spread: "its removal keeps the sets spread",
  newest: "it is the newest",
};

/** Why a scale-in removes a set before others. */
export function explainRemoval(reason: RemovalReason): string {
  return removalTexts[reason];
}

/** Why a set is on its host: the parts of its score, largest first. */
export function explainPlacement(placement: Pick<Placement, "score" | "because">): string {
  const parts = Object.entries(placement.because)
    .sort(([nameA, a], [nameB, b]) => b - a || (nameA < nameB ? -1 : 1))
    .map(([name, score]) => `${name} ${score}`);
  return `score ${placement.score}: ${parts.join(", ")}`;
}

/**
 * Why no host takes a set, and the remedies. A reason that holds on every host is the cause, and
 * stands first: no other remedy helps before its own. Without such a reason the text lists all of
 * them.
 */
export function explainRejection(rejection: Pick<Rejection, "reasons" | "hostsTotal">): string {
  const { hostsTotal, reasons } = rejection;
  if (hostsTotal === 0) return "No hosts exist. To fix: enroll a host.";
  const parts = reasons
    .toSorted((a, b) => b.hosts - a.hosts)
    .map(({ reason, hosts }) => {
      const where =
        hosts < hostsTotal ? String(hosts) : hosts === 1 ? "the only host" : `all ${hosts}`;
      return `${isKnown(reason) ? findings[reason] : reason} on ${where} [${reason}]`;
    });
  const fixes = listRemedies(rejection).join("; ");
  const text = `0 of ${hostsTotal} ${hostsTotal === 1 ? "host fits" : "hosts fit"}: ${parts.join(", ")}.`;
  return fixes === "" ? text : `${text} To fix: ${fixes}.`;
}

/** Why one host does not take a set, and the remedies of all reasons. */
export function explainHostReasons(reasons: readonly RejectReason[]): string {
  const parts = reasons.map((reason) => `${findings[reason]} [${reason}]`);
  const fixes = listRemedies({
    reasons: reasons.map((reason) => ({ reason, hosts: 1 })),
    hostsTotal: 1,
  });
  return `${parts.join(", ")}. To fix: ${fixes.join("; ")}.`;
}

/**
 * The remedies, most effective first: one for each reason that holds on every host, because all of
 * them must end. Without such a reason it is the one for the reason that holds on most hosts.
 */
export function listRemedies({
  reasons,
  hostsTotal,
}: {
  /** As stored; another version of Berth may have stored other reasons. */
  reasons: readonly { reason: string; hosts: number }[];
  hostsTotal: number;
}): string[] {
  const causes = reasons.filter((reason) => reason.hosts === hostsTotal);
  const [most] = reasons.toSorted((a, b) => b.hosts - a.hosts);
  const toMend = causes.length > 0 || !most ? causes : [most];
  const found = toMend.flatMap(({ reason }) => (isKnown(reason) ? remedies[reason] : []));
  return [...new Set(found.map((remedy) => describeRemedy(remedy, found)))];
}

/** Describes a remedy. All limits of one kind have one text, because one command raises them. */
function describeRemedy(remedy: Remedy, found: readonly Remedy[]): string {
  if (typeof remedy === "string") return remedy;
  const { raise } = remedy;
  const options = found
    .flatMap((other) => (typeof other !== "string" && other.raise === raise ? other.part : []))
    .map((part) => ` --${raise} ${part}=PERCENT`)
    .join("");
  return raise === "overcommit"
    ? `add hosts, use smaller sets, or raise the pool's overcommit (berth pool update NAME${options})`
    : `add hosts, reduce the usage of the hosts (berth top hosts), or raise the pool's high-water mark (berth pool update NAME${options})`;
}

function isKnown(reason: string): reason is RejectReason {
  return (rejectReasons as readonly string[]).includes(reason);
}
