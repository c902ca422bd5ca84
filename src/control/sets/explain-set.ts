import { notFound } from "../../contracts/common/app-error.ts";
import type { BerthSet, SetExplanation } from "../../contracts/api/sets.ts";
import { findPlacement, findRejection, findSetById } from "../../db/queries/sets/read-sets.ts";
import { listRemedies } from "../../scheduler/placement/explain.ts";
import type { ControlContext } from "../runtime/context.ts";

/** Why a set is where it is, or why it is nowhere (I5): the stored reasons, and the same as text. Throws not-found. */
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
    lines.push(`No host was found at ${at}. Of ${hostsTotal} hosts:`);
    for (const { reason, hosts } of reasons) lines.push(`  ${hosts} ${reason}`);
    for (const remedy of listRemedies(parts.rejection)) lines.push(`To fix: ${remedy}.`);
  } else if (!set.host && set.state === "pending") {
    lines.push("It waits for the next round of the placement job.");
  }
  if (parts.reason) {
    const { phase, text, code } = parts.reason;
    lines.push(`Reason${phase === undefined ? "" : ` (while ${phase})`}: ${text} [${code}]`);
  }
  for (const container of set.containers) {
    if (container.reason)
      lines.push(`Container ${container.name} is ${container.state}: ${container.reason.text}`);
  }
  return `${lines.join("\n")}\n`;
}
