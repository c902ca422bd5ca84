import { formatCount } from "../../lib/text/format-count.ts";
import { truncate } from "../../lib/text/truncate.ts";
import { TEXT_CHARACTERS_MAX } from "../common/primitives.ts";
import type { Named } from "./event-facts.ts";
import type { EventKind } from "./events.ts";
import { hostEventTexts } from "./host-event-texts.ts";
import { networkEventTexts } from "./network-event-texts.ts";
import { rolloutEventTexts } from "./rollout-event-texts.ts";
import { sessionEventTexts } from "./session-event-texts.ts";
import { setEventTexts } from "./set-event-texts.ts";

type ServiceScaled =
  | (Named & { cause: "request"; from: number; to: number; replicas: number })
  | (Named & { cause: "removal"; removed: number })
  | (Named & { cause: "volume-restored"; volumeId: string; to: number });

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
  ...setEventTexts,
  ...hostEventTexts,
  ...networkEventTexts,
  ...rolloutEventTexts,
  ...sessionEventTexts,

  "service-created": (facts: Named & { replicas: number }) =>
    `Service ${facts.service} created with ${formatCount(facts.replicas, "replica")}.`,
  "service-changed": (facts: Named & { changed: readonly string[]; revision: number }) =>
    `Service ${facts.service} changed: ${facts.changed.join(", ")}. Its target revision is ${facts.revision}.`,
  "service-scaled": serviceScaledText,
  "service-resized": (facts: Named & { size: string; inPlace: number; replaced: number }) =>
    `Service ${facts.service} is being resized to ${facts.size}: ${formatCount(facts.inPlace, "set")} in place, ${formatCount(facts.replaced, "set")} by replacement.`,
  "service-deleted": (facts: Named) => `Service ${facts.service} is being deleted.`,
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
