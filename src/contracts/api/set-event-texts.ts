import { formatCount } from "../../lib/text/format-count.ts";
import type { NoFacts, Reported } from "./event-facts.ts";

type SetMoved =
  | { cause: "request" }
  | { cause: "replacement-ready"; replacementSetId: string }
  | { cause: "host-deleted"; host: string }
  | { cause: "update-started"; revision: number }
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
    case "update-started":
      return `A set with revision ${facts.revision} is starting. It takes the place of this set once it is ready.`;
    case "leaving":
      return `The set leaves host ${facts.host} and will be placed again.${
        facts.hasVolume ? " Its volume goes to the trash of the host; it gets an empty volume." : ""
      }`;
    case "canceled":
      return "The move is canceled: the set was stopped.";
  }
}

/** The sentences of events about sets, their containers and their volumes: see event-texts.ts. */
export const setEventTexts = {
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
};
