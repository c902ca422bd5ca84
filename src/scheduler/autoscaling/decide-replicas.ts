import type { ReplicaRequest } from "../../contracts/api/autoscaling.ts";
import type { AutoscaleSpec } from "../../contracts/api/services.ts";
import { assert } from "../../lib/assert.ts";
import { nameAlert } from "./name-alert.ts";
import { computeRequestedReplicas } from "./compute-requested-replicas.ts";

/** The reasons of a decision name at most this many demands, and count the others. */
export const DEMANDS_NAMED_MAX = 5;
export const SCALE_IN_EVERY_SECONDS = 60;
export const SCALE_OUT_COOLDOWN_SECONDS = 60;
/**
 * While a further step waits for ready sets, Berth counts them again after a quarter of the time
 * since the last step, within these bounds.
 */
const READY_POLL_MS_MIN = 2_000;
const READY_POLL_MS_MAX = 60_000;

/** The held demands of one rule. Alerts with one identity count once. */
export interface HeldRule {
  /** Identifies the hook, the rule and the request. A changed rule may have two held requests. */
  id: string;
  /** The hook's name. */
  hook: string;
  want: ReplicaRequest;
  /** The number of identities, at least one. */
  alerts: number;
  isFiring: boolean;
  /** The oldest alert. Times are ISO 8601 in UTC. */
  oldest: { key: string; labels: Readonly<Record<string, string>>; startedAt: string };
  /** The time at which Berth releases the last demand. Null while an alert fires. */
  releaseAt: string | null;
}

/**
 * The steps that a rule with `everySeconds` has taken. `sinceMs` is the time of the last step, or
 * the later time at which the rule fired again.
 */
export type StepsTaken = Readonly<Record<string, { steps: number; sinceMs: number | null }>>;

/**
 * The part of a service's past that its next decision needs. All times are those of the database
 * clock.
 */
export interface AutoscaleHistory {
  nowMs: number;
  scaledOutAtMs: number | null;
  scaledInAtMs: number | null;
  stepsTaken: StepsTaken;
}

export interface DecisionInput {
  /** The number of replicas that users requested. */
  replicas: number;
  /** Null if autoscaling is off. Demands then do not count. */
  policy: Pick<AutoscaleSpec, "min" | "max" | "scaleIn" | "scaleOut"> | null;
  /** The current target of Berth. */
  current: number;
  readySets: number;
  rules: readonly HeldRule[];
  history: AutoscaleHistory;
  /** A scale-in takes no steps. A user requested it. */
  isScaleInImmediate: boolean;
  replicasMax: number;
}

export interface ReplicasDecision {
  desired: number;
  /** The number of replicas that users and demands request. `desired` reaches it in steps. */
  target: number;
  /** The number of replicas to which all steps and factors apply. */
  base: number;
  /** The reasons as texts, the most important first. The same input gives the same texts. */
  because: string[];
  stepsTaken: StepsTaken;
  /** The time after which the next decision is due. Null if only a change makes one necessary. */
  recheckAfterMs: number | null;
}

/**
 * Decides how many sets a service should have. Pure and total. The order of the rules does not
 * matter.
 * - The base is the larger of the users' replicas and the largest absolute demand, within the
 *   bounds. Steps and factors of all rules apply to this one base. So neither a second alert nor a
 *   flapping alert compounds them.
 * - The target is the largest request over the base. The bounds and absolute demands apply
 *   immediately.
 * - Growth by steps and factors waits until the sets of the last scale-out are ready, or until its
 *   cooldown ends.
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
  const requests = rules.map((rule) => {
    const taken = steps.taken[rule.id]?.steps ?? 1;
    const count = (rule.want.stacks === true ? rule.alerts : 1) + taken - 1;
    return { rule, requested: computeRequestedReplicas(rule.want, base, count, input.replicasMax) };
  });
  const requested = Math.max(replicas, ...requests.map((one) => one.requested));
  const target = clamp(requested);
  const scaleStep = stepToward(input, policy, { base, target, canGrow });
  const because = describeRequests(requests);
  because.push(byUsers);
  if (requested > policy.max) because.push(`autoscale.max is ${policy.max}`);
  if (requested < policy.min) because.push(`autoscale.min is ${policy.min}`);
  because.push(...scaleStep.because);
  return {
    desired: scaleStep.desired,
    target,
    base,
    because,
    stepsTaken: steps.taken,
    recheckAfterMs: earliest([scaleStep.recheckAfterMs, steps.recheckAfterMs]),
  };
}

/** Whether the next step may follow: the sets of the last one are ready, or its cooldown has ended.
 */
function isLastStepReady({ current, readySets, history, policy }: DecisionInput): boolean {
  if (history.scaledOutAtMs === null || readySets >= current) return true;
  return history.nowMs - history.scaledOutAtMs >= cooldownMs(policy);
}

/** The time after which a decision that waits for ready sets is repeated. */
function readyPollMs({ history, policy }: Pick<DecisionInput, "history" | "policy">): number {
  const sinceMs = history.nowMs - (history.scaledOutAtMs ?? history.nowMs);
  const pollMs = Math.min(Math.max(sinceMs / 4, READY_POLL_MS_MIN), READY_POLL_MS_MAX);
  return Math.min(pollMs, Math.max(cooldownMs(policy) - sinceMs, 1));
}

function cooldownMs(policy: DecisionInput["policy"]): number {
  return (policy?.scaleOut?.cooldownSeconds ?? SCALE_OUT_COOLDOWN_SECONDS) * 1_000;
}

interface ScaleStep {
  desired: number;
  because: string[];
  recheckAfterMs: number | null;
}

function stepToward(
  input: DecisionInput,
  policy: NonNullable<DecisionInput["policy"]>,
  to: { base: number; target: number; canGrow: boolean },
): ScaleStep {
  const { history } = input;
  const { base, target } = to;
  const start = Math.min(Math.max(input.current, policy.min), policy.max);
  if (target > start) {
    if (to.canGrow || target <= base) return { desired: target, because: [], recheckAfterMs: null };
    const waits = `the step to ${target} waits until ${start} sets are ready or the cooldown ends`;
    return { desired: Math.max(start, base), because: [waits], recheckAfterMs: readyPollMs(input) };
  }
  if (target === start || input.isScaleInImmediate) {
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
 * Takes the next step of each rule that has fired for its `everySeconds`. The time counts from the
 * last step, or from the first decision while the rule fires. A held rule that does not fire keeps
 * its steps and takes no more.
 */
function advanceSteps(
  input: DecisionInput,
  base: number,
  canGrow: boolean,
): { taken: StepsTaken; recheckAfterMs: number | null } {
  const { rules, history, policy, replicasMax } = input;
  const taken: Record<string, { steps: number; sinceMs: number | null }> = Object.create(null);
  const waits: number[] = [];
  for (const { id, want, alerts, isFiring } of rules) {
    if (want.everySeconds === undefined) continue;
    const before = history.stepsTaken[id] ?? { steps: 1, sinceMs: null };
    const sinceMs = isFiring ? (before.sinceMs ?? history.nowMs) : null;
    taken[id] = { steps: before.steps, sinceMs };
    if (sinceMs === null) continue;
    const count = (want.stacks === true ? alerts : 1) + before.steps - 1;
    const isAtMax = computeRequestedReplicas(want, base, count, replicasMax) >= (policy?.max ?? 0);
    if (isAtMax) continue;
    const remainingMs = want.everySeconds * 1_000 - (history.nowMs - sinceMs);
    if (remainingMs > 0) waits.push(remainingMs);
    else if (canGrow) {
      taken[id] = { steps: before.steps + 1, sinceMs: history.nowMs };
      waits.push(want.everySeconds * 1_000);
    } else waits.push(readyPollMs(input));
  }
  return { taken, recheckAfterMs: earliest(waits) };
}

function earliest(waits: readonly (number | null)[]): number | null {
  const known = waits.filter((wait) => wait !== null);
  return known.length === 0 ? null : Math.min(...known);
}

interface RuleRequest {
  rule: HeldRule;
  requested: number;
}

function describeRequests(requests: readonly RuleRequest[]): string[] {
  const sorted = requests.toSorted(byWeight);
  const named = sorted.slice(0, DEMANDS_NAMED_MAX);
  const because = named.map(describeRequest);
  const unnamed = sorted.slice(DEMANDS_NAMED_MAX).reduce((sum, one) => sum + one.rule.alerts, 0);
  if (unnamed > 0)
    because.push(
      `${unnamed} more ${unnamed === 1 ? "alert does" : "alerts do"} not raise the target`,
    );
  return because;
}

function describeRequest({ rule, requested }: RuleRequest): string {
  const others = rule.alerts > 1 ? ` and ${rule.alerts - 1} more of its rule` : "";
  const alert = `alert ${nameAlert(rule.oldest)}${others} on hook ${rule.hook}`;
  if (rule.isFiring || rule.releaseAt === null) {
    const verb = rule.alerts > 1 ? "request" : "requests";
    return `${alert} ${verb} ${requested} since ${toSeconds(rule.oldest.startedAt)}`;
  }
  return `${alert} resolved; Berth holds ${requested} until ${toSeconds(rule.releaseAt)}`;
}

function byWeight(a: RuleRequest, b: RuleRequest): number {
  if (a.requested !== b.requested) return b.requested - a.requested;
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
