import { formatCount } from "../../lib/text/format-count.ts";
import { truncate } from "../../lib/text/truncate.ts";
import { TEXT_CHARACTERS_MAX } from "../common/primitives.ts";
import type { Duplicate } from "./hosts.ts";
import type { EventKind } from "./events.ts";
import { duplicateText } from "./reason-texts.ts";

/** The sentence needs no facts; the data of the event may still hold ids. */
type NoFacts = Record<string, unknown>;

interface Named {
  /** The name of the service. */
  service: string;
}

interface NetworkFacts {
  /** The name of the network. */
  network: string;
  subnets: readonly string[];
}

interface RulesFacts {
  network: string;
  /** The first of the rules. */
  rules: readonly string[];
  /** The number of all of them. */
  count: number;
}

type RulesDeleted = RulesFacts & ({ cause: "request" } | ({ cause: "service-deleted" } & Named));

function rulesText({ network, rules, count }: RulesFacts, verb: "created" | "deleted"): string {
  const rest = count - rules.length;
  const names = rules.join(", ") + (rest > 0 ? ` and ${rest} more` : "");
  return `${formatCount(count, "rule")} ${verb} in network ${network}: ${names}.`;
}

type ServiceScaled =
  | (Named & { cause: "request"; from: number; to: number; replicas: number })
  | (Named & { cause: "removal"; removed: number })
  | (Named & { cause: "volume-restored"; volumeId: string; to: number });

type SetMoved =
  | { cause: "request" }
  | { cause: "replacement-ready"; replacementSetId: string }
  | { cause: "host-deleted"; host: string }
  | { cause: "resized-in-place" | "replacement-started"; host: string }
  | { cause: "leaving"; host: string; hasVolume: boolean }
  | { cause: "canceled" };

type SetLost =
  | {
      cause: "host-lost" | "docker-unresponsive" | "host-deleted";
      host: string;
      isReplaced: boolean;
    }
  | ({ cause: "report" } & Reported);

/**
 * A change that a user requested, or a state that the agent reports, with its reason if it has
 * one.
 */
type Requested = { cause: "request" } | { cause: "report"; reason: string | null };
interface Reported {
  reason: string | null;
}

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

interface DemandFacts {
  /** The name of the alert, such as `CpuHigh (9f2a61c7…)`. */
  alert: string;
  hook: string;
  wantedReplicas: number;
}

type TokenFacts =
  | { cause: "token" | "rotation"; name: string; role: string }
  | (Named & { cause: "hook-rotation"; name: string })
  | (Named & { cause: "hook"; name: string });

function tokenCreatedText(facts: TokenFacts): string {
  switch (facts.cause) {
    case "token":
      return `Token ${facts.name} with role ${facts.role} created.`;
    case "rotation":
      return `Token ${facts.name} with role ${facts.role} rotated.`;
    case "hook":
      return `Hook ${facts.name} of service ${facts.service} created, with its token.`;
    case "hook-rotation":
      return `Token of hook ${facts.name} of service ${facts.service} rotated.`;
  }
}

const isReplacedText = (isReplaced: boolean) => (isReplaced ? " Another set replaces it." : "");

function setLostText(facts: SetLost): string {
  if (facts.cause === "report") return facts.reason ?? "The host reports the set as lost.";
  const causes = {
    "host-lost": `Host ${facts.host} is lost.`,
    "host-deleted": `Host ${facts.host} was deleted.`,
    "docker-unresponsive": `The Docker daemon of host ${facts.host} does not respond.`,
  } as const;
  return causes[facts.cause] + isReplacedText(facts.isReplaced);
}

function setMovedText(facts: SetMoved): string {
  switch (facts.cause) {
    case "request":
      return "Move requested.";
    case "replacement-ready":
      return `Replacement ${facts.replacementSetId} is ready. This set is being removed.`;
    case "host-deleted":
      return `Host ${facts.host} was deleted. The set will be placed on another host.`;
    case "resized-in-place":
      return `Host ${facts.host} has capacity for the new size now. The set stays there.`;
    case "replacement-started":
      return `A replacement is starting on another host. The set stays on host ${facts.host} until the replacement is ready.`;
    case "leaving":
      return `The set leaves host ${facts.host} and will be placed again.${
        facts.hasVolume ? " Its volume goes to the trash of the host; it gets an empty volume." : ""
      }`;
    case "canceled":
      return "The move is canceled: the set was stopped.";
  }
}

function serviceScaledText(facts: ServiceScaled): string {
  switch (facts.cause) {
    case "request":
      return `Service ${facts.service} scaled from ${facts.from} to ${formatCount(facts.to, "set")} (${formatCount(facts.replicas, "replica")} requested).`;
    case "removal":
      return `Service ${facts.service} is removing ${formatCount(facts.removed, "set")}.`;
    case "volume-restored":
      return `Service ${facts.service} is adding a set for the restored volume ${facts.volumeId}.`;
  }
}

const demandText = ({ alert, hook }: DemandFacts) => `Alert ${alert} of hook ${hook}`;

/**
 * The sentence of each kind of event, from the facts that the event stores as its data. Readers of
 * the data can thus render an event again. A kind with several causes states its cause in the
 * facts.
 *
 * SQL that writes events takes the text as a parameter. If a part of the text is known to SQL
 * alone, pass a format: `format(${renderEventText("set-placed", { host: "%s" })}, host_name)`.
 */
export const eventTexts = {
  "service-created": (facts: Named & { replicas: number }) =>
    `Service ${facts.service} created with ${formatCount(facts.replicas, "replica")}.`,
  "service-changed": (facts: Named & { changed: readonly string[]; revision: number }) =>
    `Service ${facts.service} changed: ${facts.changed.join(", ")}. Its target revision is ${facts.revision}.`,
  "service-scaled": serviceScaledText,
  "service-resized": (facts: Named & { size: string; inPlace: number; replaced: number }) =>
    `Service ${facts.service} is being resized to ${facts.size}: ${formatCount(facts.inPlace, "set")} in place, ${formatCount(facts.replaced, "set")} by replacement.`,
  "service-deleted": (facts: Named) => `Service ${facts.service} is being deleted.`,

  "set-placed": (facts: { host: string }) => `Placed on host ${facts.host}.`,
  "set-rejected": (facts: { explanation: string }) => facts.explanation,
  "set-preparing": (facts: Reported) => facts.reason ?? "The host is preparing the set.",
  "set-starting": (facts: Requested | { cause: "restart" }) => {
    if (facts.cause === "restart") return "Restart requested.";
    return facts.cause === "request"
      ? "Start requested."
      : (facts.reason ?? "The set is starting.");
  },
  "set-running": (facts: Reported) => facts.reason ?? "The set is running.",
  "set-ready": (_facts: NoFacts) => "The set is ready.",
  "set-not-ready": (facts: Reported) => facts.reason ?? "The set is not ready.",
  "set-warning": (facts: { warning: string }) => facts.warning,
  "set-resized": (_facts: NoFacts) => "The set has its new size.",
  "set-resize-refused": (facts: Reported) =>
    `The host refused the new size; the set keeps its previous size. Reason: ${facts.reason ?? "none reported."}`,
  "set-stopping": (facts: Requested | { cause: "deletion" }) => {
    if (facts.cause === "deletion") return "Deletion requested.";
    return facts.cause === "request" ? "Stop requested." : (facts.reason ?? "The set is stopping.");
  },
  "set-stopped": (facts: Reported) => facts.reason ?? "The set is stopped.",
  "set-failed": (facts: Reported) => facts.reason ?? "The set failed.",
  "set-lost": setLostText,
  "set-held": (facts: { explanation: string }) => facts.explanation,
  "set-removed": (facts: { isPlacedAgain: boolean }) =>
    facts.isPlacedAgain
      ? "The set is removed from its host and will be placed again."
      : "The set is removed from its host.",
  "set-moved": setMovedText,

  "container-exited": (facts: { container: string } & Reported) =>
    facts.reason ?? `Container ${facts.container} exited.`,
  "container-out-of-memory": (facts: { container: string } & Reported) =>
    facts.reason ?? `The kernel killed a process of container ${facts.container}: out of memory.`,
  "container-restarted": (facts: {
    container: string;
    exitCode: number | null;
    restarts: number;
  }) => {
    const exit = facts.exitCode === null ? "" : ` after exit code ${facts.exitCode}`;
    return `Container ${facts.container} restarted${exit} (${formatCount(facts.restarts, "restart")} in total).`;
  },

  "volume-trashed": (facts: { expiresAt: string }) =>
    `The volume is in the trash. It can be restored until ${facts.expiresAt}.`,
  "volume-restored": (_facts: NoFacts) => "The volume is restored.",
  "volume-purging": (_facts: NoFacts) => "Purge requested.",
  "volume-not-purged": (facts: { reason: string }) => `The volume was not purged: ${facts.reason}`,
  "volume-purged": (_facts: NoFacts) => "The volume is purged.",
  "volume-lost": (facts: { cause: "host-deleted" | "missing" }) =>
    facts.cause === "host-deleted"
      ? "The volume is lost: its host was deleted."
      : "The volume is lost: its host no longer reports it.",

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

  "demand-raised": (facts: DemandFacts) =>
    `${demandText(facts)} fires and requests ${formatCount(facts.wantedReplicas, "set")}.`,
  "demand-resolved": (facts: DemandFacts) =>
    `${demandText(facts)} resolved. Its ${formatCount(facts.wantedReplicas, "set")} stay for the stabilization window.`,
  "demand-released": (facts: DemandFacts) =>
    `${demandText(facts)} no longer holds ${formatCount(facts.wantedReplicas, "set")}.`,
  "demand-stale": (facts: DemandFacts) =>
    `${demandText(facts)} no longer holds ${formatCount(facts.wantedReplicas, "set")}: no delivery mentioned it for the rule's holdMaxSeconds.`,
  "alerts-truncated": (facts: { hook: string; truncatedAlerts: number }) =>
    `A delivery to hook ${facts.hook} left out ${formatCount(facts.truncatedAlerts, "alert")}. Remove \`max_alerts\` from its sender.`,
  "decision-made": (facts: Named & { from: number; to: number; because: readonly string[] }) => {
    const direction = facts.to > facts.from ? "out" : "in";
    return `Service ${facts.service} scales ${direction} from ${facts.from} to ${formatCount(facts.to, "set")}: ${facts.because.join("; ")}.`;
  },

  "hook-changed": (facts: Named & { hook: string; changed: readonly string[] }) =>
    `Hook ${facts.hook} of service ${facts.service} changed: ${facts.changed.join(", ")}.`,
  "tenant-changed": (facts: { tenant: string; changed: readonly string[] }) =>
    `Tenant ${facts.tenant} changed: ${facts.changed.join(", ")}.`,
  "registry-stored": (facts: { registry: string; username: string }) =>
    `Credential of user ${facts.username} for registry ${facts.registry} stored.`,
  "registry-deleted": (facts: { registry: string }) =>
    `Credential for registry ${facts.registry} deleted.`,
  "network-created": (facts: NetworkFacts) =>
    `Network ${facts.network} created with ${facts.subnets.join(" and ")}.`,
  "network-changed": (facts: NetworkFacts) =>
    `Network ${facts.network} changed. Its subnets are ${facts.subnets.join(" and ")}.`,
  "network-deleted": (facts: { network: string }) => `Network ${facts.network} deleted.`,
  "service-address-missing": (facts: Named & { networks: readonly string[] }) =>
    `Service ${facts.service} has no service address in ${facts.networks.join(", ")}, because a subnet has no free address. Berth tries again.`,
  "rules-created": (facts: RulesFacts) => rulesText(facts, "created"),
  "rule-changed": (facts: {
    network: string;
    rule: string;
    /** The rule after the change. */
    definition: string;
    changed: readonly string[];
  }) =>
    `Rule ${facts.rule} in network ${facts.network} changed: ${facts.changed.join(", ")}. Now it is: ${facts.definition}.`,
  "rules-deleted": (facts: RulesDeleted) =>
    facts.cause === "request"
      ? rulesText(facts, "deleted")
      : `${rulesText(facts, "deleted")} They named service ${facts.service}, which is deleted.`,
  "token-created": tokenCreatedText,
  "token-revoked": (facts: { cause: "token" } | (Named & { cause: "hook" })) =>
    facts.cause === "token"
      ? "Token revoked."
      : `Hook of service ${facts.service} deleted, with its token.`,
} satisfies Record<EventKind, (facts: never) => string>;

export type EventFacts<K extends EventKind> = Parameters<(typeof eventTexts)[K]>[0];

/** The sentence of an event, at most 2,000 characters. */
export function renderEventText<K extends EventKind>(kind: K, facts: EventFacts<K>): string {
  // The compiler cannot relate a kind to the parameter of its own function.
  const render = eventTexts[kind] as (facts: EventFacts<K>) => string;
  return truncate(render(facts), TEXT_CHARACTERS_MAX);
}

/** The objects that an event is about. */
export interface EventSubjects {
  tenantId?: string | null;
  serviceId?: string | null;
  setId?: string | null;
  hostId?: string | null;
  generation?: number | null;
}

/**
 * An event to append. Its data are the facts of its sentence; further members may hold ids. The
 * database layer renders the sentence and stores it with the data. An old event thus keeps its text
 * when a sentence changes.
 */
export type EmittedEvent = {
  [K in EventKind]: EventSubjects & { kind: K; data: EventFacts<K> & Record<string, unknown> };
}[EventKind];

/** The sentence of an event to append. */
export function renderEmittedEvent({ kind, data }: EmittedEvent): string {
  // The compiler cannot relate the kind to the data of the same member of the union.
  return renderEventText(kind, data as never);
}
