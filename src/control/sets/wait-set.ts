import { notFound } from "../../contracts/common/app-error.ts";
import type { BerthSet } from "../../contracts/api/sets.ts";
import { findSetById, hasDeletedSet } from "../../db/queries/sets/read-sets.ts";
import type { ControlContext } from "../runtime/context.ts";
import { pollUntil } from "../runtime/wait-until.ts";

export interface SetWait {
  reached: boolean;
  set: BerthSet | null;
}
export type SetGoal = "running" | "ready" | "stopped" | "deleted";

/**
 * Waits until the set has the state. Returns the set at the end of the wait, or null once it is
 * deleted. Throws not-found when no such set ever existed.
 */
export async function waitSet(
  ctx: ControlContext,
  scope: string | null,
  setId: string,
  query: { state: SetGoal; timeoutSeconds: number },
  signal: AbortSignal,
): Promise<SetWait> {
  let isKnown = false;
  return pollUntil<SetWait>(ctx, `set:${setId}`, query.timeoutSeconds * 1000, signal, async () => {
    const set = await findSetById(ctx.db, scope, setId);
    if (!set && !isKnown && !(await hasDeletedSet(ctx.db, scope, setId))) throw notFound("set");
    isKnown = true;
    if (!set) return { isDone: true, value: { reached: query.state === "deleted", set: null } };
    const reached = isReached(set, query.state);
    return { isDone: reached, value: { reached, set } };
  });
}

function isReached(set: BerthSet, goal: SetGoal): boolean {
  switch (goal) {
    case "running":
    case "stopped":
      return set.state === goal;
    case "ready":
      return set.state === "running" && set.ready;
    case "deleted":
      return false;
  }
}
