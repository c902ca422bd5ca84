import { formatCount } from "../../lib/text/format-count.ts";
import type { NoFacts, Reported } from "./event-facts.ts";
import type { Duplicate } from "./hosts.ts";
import { duplicateText } from "./reason-texts.ts";

interface HostAhead {
  acceptedGeneration: number;
  databaseGeneration: number;
  /** The lead is too large for lost changes. Missing in events of older releases. */
  isRefused?: boolean;
}

type HostDraining =
  | { cause: "request"; host: string }
  | { cause: "deadline-missed"; host: string; sets: number; isForced: boolean };

/** used: the agent has used the new credential for the first time. */
interface HostCredentialRotated {
  cause: "request" | "used";
  host: string;
}

/** The sentences of events about hosts: see event-texts.ts. */
export const hostEventTexts = {
  "host-enrolled": (facts: { host: string; pool: string }) =>
    `Host ${facts.host} enrolled in pool ${facts.pool}.`,
  "host-ready": (_facts: NoFacts) => "The host is ready.",
  "host-unhealthy": (facts: Reported) => facts.reason ?? "The host is unhealthy.",
  "host-lost": (facts: { host: string }) => `Host ${facts.host} is lost: its lease expired.`,
  "host-cordoned": (facts: { host: string }) =>
    `Host ${facts.host} is cordoned. It accepts no new sets.`,
  "host-uncordoned": (facts: { host: string }) => `Host ${facts.host} accepts new sets again.`,
  "host-draining": (facts: HostDraining) =>
    facts.cause === "request"
      ? `Host ${facts.host} is draining. Its sets move to other hosts.`
      : `The drain of host ${facts.host} missed its deadline with ${formatCount(facts.sets, "set")} left. ${
          facts.isForced
            ? "Berth now ignores disruption budgets and moves them."
            : "Repeat the drain with `force` to ignore disruption budgets."
        }`,
  "host-deleted": (facts: { host: string }) => `Host ${facts.host} is deleted.`,
  "host-ahead": (facts: HostAhead) =>
    `The agent has generation ${facts.acceptedGeneration}, but the database has ${facts.databaseGeneration}: ${
      facts.isRefused
        ? "the agent's state is corrupt, and Berth refuses its reports. Stop the agent, set `acceptedGeneration` to 0 in its `host-agent.json`, and start it."
        : "the database lost changes. Berth resends all sets."
    }`,
  "host-duplicated": (facts: { cause: Duplicate }) => duplicateText(facts.cause),
  "host-self-test-failed": (facts: Reported & { isOnlyReported?: boolean }) =>
    `The self test of the agent failed, ${
      facts.isOnlyReported
        ? "and `BERTH_AGENT_SELF_TEST=report` lets the host take new sets"
        : "so the host takes no new sets"
    }: ${facts.reason ?? "no reason reported."}`,
  "host-self-test-passed": (_facts: NoFacts) =>
    "The self test of the agent passed again. The host takes new sets.",
  "host-features-lost": (facts: { features: readonly string[]; sets: number }) =>
    `The agent lacks features that it had: ${facts.features.join(", ")}. ${formatCount(facts.sets, "set")} of the host ${facts.sets === 1 ? "uses" : "use"} one of them. Upgrade the agent.`,
  "host-machine-accepted": (_facts: NoFacts) =>
    "An operator accepts another machine for this host: the one whose agent syncs next.",
  "host-credential-rotated": (facts: HostCredentialRotated) =>
    facts.cause === "request"
      ? `An operator requested the rotation of the credential of host ${facts.host}.`
      : `The agent of host ${facts.host} uses its new credential. Berth refuses the previous one.`,
  "host-volumes-found": (facts: { deletedHostId: string; volumes: number }) =>
    `The machine has ${formatCount(facts.volumes, "volume")} of the deleted host ${facts.deletedHostId}, which had another machine id. If they belong to this machine, run \`berth adopt-volumes HOST ${facts.deletedHostId}\`.`,
  "host-volumes-adopted": (facts: { deletedHostId: string; volumes: number }) =>
    `An operator has ordered the adoption of ${formatCount(facts.volumes, "volume")} of the deleted host ${facts.deletedHostId}. They go to the trash of this host, and containers of that host end.`,
  "host-unknown-sets": (facts: { sets: number }) =>
    `The host has ${formatCount(facts.sets, "set")} that the database does not know: a restore or a failover lost them. Their containers continue to run. Save what you need, apply your manifests, then run \`berth delete unknown-sets HOST\`.`,
  "host-addresses-conflicting": (facts: { addresses: readonly string[] }) =>
    `The host has sets that the database does not know, with addresses that Berth has assigned to other sets or services: ${facts.addresses.join(", ")}. For each address, delete one of its two holders.`,
  "host-unknown-sets-deleted": (facts: { sets: number }) =>
    `An operator has ordered the deletion of ${formatCount(facts.sets, "set")} that the database does not know. Their volumes go to the trash.`,
  "replacement-held": (facts: { pool: string; hostsDown: number; hostsTotal: number }) =>
    `Replacement is paused: ${facts.hostsDown} of ${facts.hostsTotal} hosts of pool ${facts.pool} went down together. Bring the hosts back, or delete them.`,
};
