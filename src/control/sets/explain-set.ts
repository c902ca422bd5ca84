import { notFound } from "../../contracts/common/app-error.ts";
import type { Operation } from "../../contracts/api/operations.ts";
import type { BerthSet, SetExplanation } from "../../contracts/api/sets.ts";
import { findPlacement, findRejection, findSetById } from "../../db/queries/sets/read-sets.ts";
import { listRemedies } from "../../scheduler/placement/explain.ts";
import { formatCount } from "../../lib/text/format-count.ts";
import type { ControlContext } from "../runtime/context.ts";

/**
 * Explains why a set is on its host, or why it has none (I5): the stored reasons, and a text.
 * Throws not-found.
 */
export async function explainSet(
  ctx: ControlContext,
  scope: string | null,
  setId: string,
): Promise<SetExplanation> {
  const set = await findSetById(ctx.db, scope, setId);
  if (!set) throw notFound("set");
  const placement = (set.host && (await findPlacement(ctx.db, setId))) ?? null;
  const rejection = (set.host ? undefined : await findRejection(ctx.db, setId)) ?? null;
  const parts = { setId, placement, rejection, reason: set.reason };
  return { ...parts, text: toText(set, parts) };
}

function toText(set: BerthSet, parts: Omit<SetExplanation, "text">): string {
  const lines = [
    `${set.id} of ${set.service} (revision ${set.revision}) is ${set.state}${set.ready ? " and ready" : ""}; it should be ${set.desired}.`,
  ];
  if (parts.placement) {
    const { hostName, at, score, because } = parts.placement;
    lines.push(`It was placed on ${hostName} at ${at} with the score ${score}:`);
    for (const [what, value] of Object.entries(because)) lines.push(`  ${what} ${value}`);
  }
  if (parts.rejection) {
    const { hostsTotal, reasons, at } = parts.rejection;
    lines.push(
      `The attempt at ${at} found no host that fits. Of ${formatCount(hostsTotal, "host")}:`,
    );
    for (const { reason, hosts } of reasons) lines.push(`  ${hosts} ${reason}`);
    for (const remedy of listRemedies(parts.rejection)) lines.push(`To fix: ${remedy}.`);
  } else if (!set.host && set.state === "pending") {
    lines.push("It waits for the next round of the placement job.");
  }
  if (set.operation) lines.push(describeOperation(set.operation));
  if (parts.reason) {
    const { phase, text, code } = parts.reason;
    lines.push(`Reason${phase === undefined ? "" : ` (phase ${phase})`}: ${text} [${code}]`);
  }
  for (const container of set.containers) {
    if (container.reason)
      lines.push(`Container ${container.name} is ${container.state}: ${container.reason.text}`);
  }
  return `${lines.join("\n")}\n`;
}

const ownerTexts = {
  user: "requested by a user",
  drain: "for the drain of its host",
  resize: "for the resize of its service",
  rollout: "for the rollout of its service",
  "start-failed": "after failed starts",
  rebalance: "for the rebalance of its pool",
  preemption: "for a set of a higher priority",
} as const;

function describeOperation({ kind, phase, owner, createdAt, deadlineAt }: Operation): string {
  const what = owner === null ? kind : `${kind} ${ownerTexts[owner]}`;
  const since = createdAt === null ? "" : ` since ${createdAt}`;
  const until = deadlineAt === null ? "" : `; it expires at ${deadlineAt}`;
  return `Operation: ${what}, ${phase}${since}${until}.`;
}
