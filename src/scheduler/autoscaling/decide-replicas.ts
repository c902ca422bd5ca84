import type { Want } from "../../contracts/api/autoscaling.ts";
import type { AutoscaleSpec } from "../../contracts/api/services.ts";
import { assert } from "../../lib/assert.ts";
import { nameAlert } from "./name-alert.ts";
import { wantedReplicas } from "./wanted-replicas.ts";

/** A decision names this many demands in its reasons and counts the others. */
export const DEMANDS_NAMED_MAX = 5;
export const SCALE_IN_EVERY_SECONDS = 60;
export const SCALE_OUT_COOLDOWN_SECONDS = 60;
/** While a further step waits for ready sets Berth counts them this often. */
const READY_POLL_MS = 2_000;

/** The demands of one rule that Berth holds now. Alerts of one identity count once. */
export interface HeldRule {
  /** Identifies the hook, the rule and the want; a rule that was changed may hold two wants. */
  id: string;
  /** The hook's name. */
  hook: string;
  want: Want;
  /** The number of identities, at least one. */
  alerts: number;
  isFiring: boolean;
  /** The oldest alert. Times are ISO 8601 in UTC. */
  oldest: { key: string; labels: Readonly<Record<string, string>>; startedAt: string };
  /** The last time at which Berth releases one of them, if none fires. */
  releaseAt: string | null;
}

/**
 * The steps that a rule with `everySeconds` has taken, and when it took the last one or began to
 * fire again.
 */
export type StepsTaken = Readonly<Record<string, { steps: number; sinceMs: number | null }>>;

/**
 * The past of a service, as far as its next decision needs it. All times are those of the database
 * clock.
 */
export interface AutoscaleHistory {
  nowMs: number;
  scaledOutAtMs: number | null;
  scaledInAtMs: number | null;
  stepsTaken: StepsTaken;
}

export interface DecisionInput {
  /** The replicas that users chose. */
  replicas: number;
  /** Null: autoscaling is off, and demands do not count. */
  policy: Pick<AutoscaleSpec, "min" | "max" | "scaleIn" | "scaleOut"> | null;
  /** The replicas that Berth works towards now. */
  current: number;
  readySets: number;
  rules: readonly HeldRule[];
  history: AutoscaleHistory;
  /** True for a user's own scale-in, which takes no steps. */
  isScaleInAtOnce: boolean;
  replicasMax: number;
}

export interface ReplicasDecision {
  desired: number;
  /** The size that the demands call for. `desired` reaches it in steps. */
  target: number;
  /** The size without steps and factors: the base of all of them. */
  base: number;
  /** Sentences, the weightiest first. The same input gives the same sentences. */
  because: string[];
  stepsTaken: StepsTaken;
  /** Decide again after this time, whatever happens until then. */
  recheckAfterMs: number | null;
}

/**
 * Decides how many sets a service should have. Pure and total; the order of the rules does not
 * matter.
 *
 * - The base is the larger of the users' replicas and the largest absolute demand, within the
 *   bounds. Steps and factors of all rules apply to this one base, so that neither a second alert
 *   nor a flap compounds.
 * - The target is the largest want. The bounds and absolute demands apply at once.
 * - Growth by steps and factors waits until the sets of the last scale-out are ready, or its
 *   cooldown is over.
 * - Scale-in takes one step at a time and never goes below the target.
 */
export function decideReplicas(input: DecisionInput): ReplicasDecision {
  const { replicas, policy, rules } = input;
  const byUsers = `replicas is set to ${replicas}`;
  if (!policy) {
    const alerts = rules.reduce((sum, rule) => sum + rule.alerts, 0);
    const ignored = `autoscale is off: ${countAlerts(alerts)} not counted`;
    return {
      desired: replicas,
      target: replicas,
      base: replicas,
      because: alerts > 0 ? [byUsers, ignored] : [byUsers],
      stepsTaken: {},
      recheckAfterMs: null,
    };
  }
  assert(policy.min <= policy.max, "a service's autoscale.min is not above its max");
  const clamp = (count: number) => Math.min(Math.max(count, policy.min), policy.max);
  const absolute = rules.map((rule) => rule.want.replicas ?? 0);
  const base = clamp(Math.max(replicas, ...absolute));
  const canGrow = isLastStepReady(input);
  const steps = advanceSteps(input, base, canGrow);
  const wants = rules.map((rule) => {
    const taken = steps.taken[rule.id]?.steps ?? 1;
    const count = (rule.want.stacks === true ? rule.alerts : 1) + taken - 1;
    return { rule, wanted: wantedReplicas(rule.want, base, count, input.replicasMax) };
  });
  const wanted = Math.max(replicas, ...wants.map((one) => one.wanted));
  const target = clamp(wanted);
  const move = moveTowards(input, policy, { base, target, canGrow });
  const because = describeWants(wants);
  because.push(byUsers);
  if (wanted > policy.max) because.push(`autoscale.max is ${policy.max}`);
  if (wanted < policy.min) because.push(`autoscale.min is ${policy.min}`);
  because.push(...move.because);
  return {
    desired: move.desired,
    target,
    base,
    because,
    stepsTaken: steps.taken,
    recheckAfterMs: earliest([move.recheckAfterMs, steps.recheckAfterMs]),
  };
}

/**
 * True when a further step may follow: the sets of the last one are ready, or its cooldown is over.
 */
function isLastStepReady({ current, readySets, history, policy }: DecisionInput): boolean {
  if (history.scaledOutAtMs === null || readySets >= current) return true;
  return history.nowMs - history.scaledOutAtMs >= cooldownMs(policy);
}

function cooldownMs(policy: DecisionInput["policy"]): number {
  return (policy?.scaleOut?.cooldownSeconds ?? SCALE_OUT_COOLDOWN_SECONDS) * 1_000;
}

interface Move {
  desired: number;
  because: string[];
  recheckAfterMs: number | null;
}

function moveTowards(
  input: DecisionInput,
  policy: NonNullable<DecisionInput["policy"]>,
  to: { base: number; target: number; canGrow: boolean },
): Move {
  const { history } = input;
  const { base, target } = to;
  const start = Math.min(Math.max(input.current, policy.min), policy.max);
  if (target > start) {
    if (to.canGrow || target <= base) return { desired: target, because: [], recheckAfterMs: null };
    const waits = `the step to ${target} waits until ${start} sets are ready or the cooldown ends`;
    return { desired: Math.max(start, base), because: [waits], recheckAfterMs: READY_POLL_MS };
  }
  if (target === start || input.isScaleInAtOnce) {
    return { desired: target, because: [], recheckAfterMs: null };
  }
  const step = policy.scaleIn?.step ?? Math.max(1, Math.floor(start / 10));
  const everyMs = (policy.scaleIn?.everySeconds ?? SCALE_IN_EVERY_SECONDS) * 1_000;
  const waitedMs = history.scaledInAtMs === null ? everyMs : history.nowMs - history.scaledInAtMs;
  const because = [`scale-in to ${target} removes at most ${step} every ${everyMs / 1_000} s`];
  if (waitedMs < everyMs) return { desired: start, because, recheckAfterMs: everyMs - waitedMs };
  const desired = Math.max(target, start - step);
  return { desired, because, recheckAfterMs: desired > target ? everyMs : null };
}

/**
 * Takes the next step of each rule that fires for longer than its `everySeconds`. The time counts
 * from the last step or from the decision that first saw the rule fire. A rule that is held but
 * does not fire keeps its steps and takes no more.
 */
function advanceSteps(
  { rules, history, policy, replicasMax }: DecisionInput,
  base: number,
  canGrow: boolean,
): { taken: StepsTaken; recheckAfterMs: number | null } {
  const taken: Record<string, { steps: number; sinceMs: number | null }> = Object.create(null);
  const waits: number[] = [];
  for (const { id, want, alerts, isFiring } of rules) {
    if (want.everySeconds === undefined) continue;
    const before = history.stepsTaken[id] ?? { steps: 1, sinceMs: null };
    const sinceMs = isFiring ? (before.sinceMs ?? history.nowMs) : null;
    taken[id] = { steps: before.steps, sinceMs };
    if (sinceMs === null) continue;
    const count = (want.stacks === true ? alerts : 1) + before.steps - 1;
    const isAtMax = wantedReplicas(want, base, count, replicasMax) >= (policy?.max ?? 0);
    if (isAtMax) continue;
    const leftMs = want.everySeconds * 1_000 - (history.nowMs - sinceMs);
    if (leftMs > 0) waits.push(leftMs);
    else if (canGrow) {
      taken[id] = { steps: before.steps + 1, sinceMs: history.nowMs };
      waits.push(want.everySeconds * 1_000);
    } else waits.push(READY_POLL_MS);
  }
  return { taken, recheckAfterMs: earliest(waits) };
}

function earliest(waits: readonly (number | null)[]): number | null {
  const known = waits.filter((wait) => wait !== null);
  return known.length === 0 ? null : Math.min(...known);
}

interface RuleWant {
  rule: HeldRule;
  wanted: number;
}

function describeWants(wants: readonly RuleWant[]): string[] {
  const sorted = wants.toSorted(byWeight);
  const named = sorted.slice(0, DEMANDS_NAMED_MAX);
  const because = named.map(describeWant);
  const unnamed = sorted.slice(DEMANDS_NAMED_MAX).reduce((sum, one) => sum + one.rule.alerts, 0);
  if (unnamed > 0)
    because.push(
      `${unnamed} more ${unnamed === 1 ? "alert does" : "alerts do"} not raise the target`,
    );
  return because;
}

function describeWant({ rule, wanted }: RuleWant): string {
  const others = rule.alerts > 1 ? ` and ${rule.alerts - 1} more of its rule` : "";
  const alert = `alert ${nameAlert(rule.oldest)}${others} on hook ${rule.hook}`;
  if (rule.isFiring || rule.releaseAt === null) {
    const verb = rule.alerts > 1 ? "want" : "wants";
    return `${alert} ${verb} ${wanted} since ${toSeconds(rule.oldest.startedAt)}`;
  }
  return `${alert} resolved; Berth holds ${wanted} until ${toSeconds(rule.releaseAt)}`;
}

function byWeight(a: RuleWant, b: RuleWant): number {
  if (a.wanted !== b.wanted) return b.wanted - a.wanted;
  const [started, other] = [a.rule.oldest.startedAt, b.rule.oldest.startedAt];
  if (started !== other) return started < other ? -1 : 1;
  return a.rule.id < b.rule.id ? -1 : 1;
}

function countAlerts(count: number): string {
  return count === 1 ? "1 alert is" : `${count} alerts are`;
}

/** 2026-01-05T12:00:03.123Z -> 2026-01-05T12:00:03Z */
function toSeconds(isoTime: string): string {
  return isoTime.replace(/\.\d+Z$/, "Z");
}
