import type { RolloutStrategy, UpdateMethod } from "../../contracts/api/rollouts.ts";
import type { TemplateDiff } from "./compare-templates.ts";

/** The facts of a set, and of its service, that decide how it can be updated. */
export interface MethodFacts {
  hasVolume: boolean;
  hasStaticAddress: boolean;
  /** The budget of the service ever permits a replacement beside a set; see `permitsSurge`. */
  permitsSurge: boolean;
  /** The set does not serve now, so that a stop interrupts nothing. */
  isAvailable: boolean;
  /** The set has to leave its host. */
  isHostDraining: boolean;
}

/** Why a method was chosen; the API reports it. */
export type MethodCause =
  | "nothing-restarts"
  | "requested"
  | "interrupts-nothing"
  | "volume"
  | "static-address"
  | "no-surge"
  | "not-available"
  | "set-level"
  | "host-draining";

export type MethodChoice =
  | { ok: true; method: UpdateMethod; because: MethodCause }
  /** `member` cannot change in place, and a replacement is impossible for the reason `because`. */
  | { ok: false; member: "networks" | "ports" | "volume"; because: MethodCause };

/**
 * Chooses how a set gets another template. Pure; total for every combination.
 *
 * The default is start-first, because it interrupts nothing. It is impossible for a set with a
 * volume or a static address, and without surge. Then the change happens in place. So does that of
 * a set that is not available: a stop costs nothing, and a replacement would use surge that others
 * need. A set on a draining host changes with its move.
 *
 * A change at the set level replaces all containers, even if the caller requested it in place. Some
 * of these changes need another set. Then the mover stops the set first if it does not serve, so
 * start-first is right for it, too.
 */
export function chooseMethod(
  requested: RolloutStrategy["method"],
  diff: TemplateDiff,
  set: MethodFacts,
): MethodChoice {
  const obstacle = whyNotReplaceable(set);
  if (set.isHostDraining && obstacle === undefined)
    return { ok: true, method: "start-first", because: "host-draining" };
  if (diff.level === "none" || diff.level === "live")
    return { ok: true, method: "in-place", because: "nothing-restarts" };
  if (diff.needsNewSet !== null) {
    if (obstacle !== undefined) return { ok: false, member: diff.needsNewSet, because: obstacle };
    return { ok: true, method: "start-first", because: "set-level" };
  }
  const inPlace = chooseInPlace(diff);
  if (obstacle !== undefined) return { ok: true, method: inPlace, because: obstacle };
  if (!set.isAvailable) return { ok: true, method: inPlace, because: "not-available" };
  if (requested === "in-place") {
    // The untouched containers are the reason for a request in place. Here, none is.
    return diff.level === "set-level" && diff.setMembers.length > 0
      ? { ok: true, method: "start-first", because: "set-level" }
      : { ok: true, method: inPlace, because: "requested" };
  }
  return {
    ok: true,
    method: "start-first",
    because: requested === "start-first" ? "requested" : "interrupts-nothing",
  };
}

/**
 * The method for a set whose replacement no host takes. Undefined if the user requested start-first
 * explicitly, or if only another set can have the change.
 */
export function chooseFallback(
  requested: RolloutStrategy["method"],
  diff: TemplateDiff,
): UpdateMethod | undefined {
  return requested === "start-first" || diff.needsNewSet !== null ? undefined : chooseInPlace(diff);
}

function chooseInPlace(diff: TemplateDiff): UpdateMethod {
  return diff.level === "set-level" ? "in-place-all" : "in-place";
}

function whyNotReplaceable(set: MethodFacts): MethodCause | undefined {
  if (set.hasVolume) return "volume";
  if (set.hasStaticAddress) return "static-address";
  return set.permitsSurge ? undefined : "no-surge";
}
