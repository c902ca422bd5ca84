import type { Rollout } from "../../contracts/api/rollout-answers.ts";
import type { Column } from "./columns.ts";
import { formatAge } from "./format-amounts.ts";
import { plainText } from "./plain-text.ts";
import type { Tone } from "./terminal.ts";

type RolloutSet = Rollout["sets"][number];

export const rolloutColumns: readonly Column<Rollout>[] = [
  { head: "NUMBER", cell: ({ number }) => String(number) },
  { head: "STATE", cell: ({ state }) => state, tone: rolloutTone },
  { head: "STEP", cell: stepText },
  { head: "REVISION", wide: true, cell: revisionText },
  { head: "UPDATED", cell: ({ counts }) => `${counts.updated}/${counts.sets}` },
  { head: "READY", cell: ({ counts }) => String(counts.ready) },
  { head: "UPDATING", cell: ({ counts }) => String(counts.updating) },
  { head: "FAILED", cell: ({ counts }) => String(counts.failed) },
  { head: "BY", wide: true, cell: ({ requestedBy }) => requestedBy ?? "" },
  { head: "AGE", cell: ({ createdAt }, nowMs) => formatAge(createdAt, nowMs) },
  { head: "MESSAGE", wide: true, cell: ({ message }) => plainText(message ?? "") },
  { head: "REASON", cell: ({ reason }) => plainText(reason?.text ?? "") },
];

export const rolloutSetColumns: readonly Column<RolloutSet>[] = [
  { head: "SET", cell: ({ setId }) => setId },
  { head: "STEP", cell: ({ step }) => String(step) },
  { head: "METHOD", cell: ({ method }) => method },
  { head: "UPDATE", cell: updateText, tone: updateTone },
  { head: "REASON", cell: ({ reason }) => plainText(reason?.text ?? "") },
];

/** Describes the progress: "step 1/3, 1/6 updated, 1 ready, soaking". */
export function describeRollout(rollout: Rollout): string {
  const { state, phase, counts, reason } = rollout;
  const parts = [
    `step ${stepText(rollout)}`,
    `${counts.updated}/${counts.sets} updated`,
    `${counts.ready} ready`,
    ...(counts.updating > 0 ? [`${counts.updating} updating`] : []),
    ...(counts.failed > 0 ? [`${counts.failed} failed`] : []),
    ...(state === "running" ? (phase === "updating" ? [] : [phase ?? state]) : [state]),
  ];
  return `${parts.join(", ")}${reason ? `: ${plainText(reason.text)}` : ""}`;
}

function stepText({ step, steps }: Rollout): string {
  return `${step}/${steps}`;
}

function revisionText({ fromRevision, toRevision }: Rollout): string {
  return fromRevision === null ? "" : `${fromRevision} -> ${toRevision ?? ""}`;
}

function rolloutTone({ state }: Rollout): Tone | undefined {
  if (state === "completed") return "good";
  if (state === "failed" || state === "paused" || state === "rolled-back") return "bad";
  return state === "running" || state === "rolling-back" ? "warn" : undefined;
}

function updateText({ outcome, beganAt, direction }: RolloutSet): string {
  const progress = outcome ?? (beganAt === null ? "waiting" : "in progress");
  return direction === "from" ? `${progress} (returning)` : progress;
}

function updateTone({ outcome }: RolloutSet): Tone | undefined {
  return outcome === "failed" || outcome === "lost" ? "bad" : undefined;
}
