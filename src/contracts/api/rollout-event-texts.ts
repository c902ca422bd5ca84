import { formatCount } from "../../lib/text/format-count.ts";
import type { Named, NoFacts } from "./event-facts.ts";

/** The rollout of an event, as users name it. */
interface RolloutFacts extends Named {
  number: number;
}

/** A user's change has the name of the token. A change by Berth has null. */
interface ChangedBy extends RolloutFacts {
  by: string | null;
  reason: string | null;
}

const name = ({ number, service }: RolloutFacts) => `Rollout ${number} of ${service}`;

function changeText(verb: string, facts: ChangedBy): string {
  const reason = facts.reason === null ? "." : `: ${facts.reason}`;
  return `${name(facts)} ${verb} by ${facts.by ?? "Berth"}${reason}`;
}

/** The sentences of events about rollouts: see event-texts.ts. */
export const rolloutEventTexts = {
  "rollout-started": (
    facts: RolloutFacts & { by: string | null; revision: number; sets: number },
  ) =>
    `${name(facts)} started by ${facts.by ?? "Berth"}: revision ${facts.revision} for ${formatCount(facts.sets, "set")}.`,
  "rollout-step": (facts: RolloutFacts & { step: number; steps: number }) =>
    `${name(facts)}: step ${facts.step} of ${facts.steps} began.`,
  "rollout-paused": (facts: ChangedBy) => changeText("paused", facts),
  "rollout-resumed": (facts: ChangedBy) => changeText("resumed", facts),
  "rollout-promoted": (facts: ChangedBy) => changeText("promoted", facts),
  "rollout-rolling-back": (facts: ChangedBy) => changeText("is being rolled back", facts),
  "rollout-completed": (facts: RolloutFacts & { sets: number; revision: number }) =>
    `${name(facts)} completed: ${formatCount(facts.sets, "set")} ready with revision ${facts.revision}.`,
  "rollout-rolled-back": (facts: RolloutFacts & { revision: number }) =>
    `${name(facts)} rolled back: its sets have revision ${facts.revision} again.`,
  "rollout-failed": (facts: ChangedBy) => changeText("failed and was stopped", facts),
  "rollout-superseded": (facts: RolloutFacts & { successor: number }) =>
    `${name(facts)} superseded by rollout ${facts.successor}.`,
  "rollout-canceled": (facts: ChangedBy) => changeText("canceled", facts),
  "set-updated": (facts: { revision: number; containers: readonly string[] } & NoFacts) =>
    facts.containers.length === 0
      ? `The set has revision ${facts.revision}.`
      : `The set has revision ${facts.revision}. Replaced: ${facts.containers.join(", ")}.`,
};
