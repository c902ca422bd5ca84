import type { HookRule, Want } from "../../contracts/api/autoscaling.ts";
import type { AutoscaleSpec } from "../../contracts/api/services.ts";
import { assert } from "../../lib/assert.ts";

/** So many demands are named in a decision's reasons; of the others only the number is. */
export const DEMANDS_NAMED_MAX = 5;

/** An alert's demand that is held now, as far as a decision needs it. */
export interface HeldDemand {
  id: string;
  /** The hook's name. */
  hook: string;
  key: string;
  labels: Readonly<Record<string, string>>;
  /** resolved: over, but its stabilisation time is not. */
  state: "firing" | "resolved";
  wantedReplicas: number;
  /** ISO 8601 in UTC, as are all times here. */
  startedAt: string;
  releaseAt: string | null;
}

export interface DecisionInput {
  /** What people want. */
  replicas: number;
  /** Null: autoscaling is off, and demands do not count. */
  bounds: Pick<AutoscaleSpec, "min" | "max"> | null;
  /** At least the largest ones, in any order. */
  demands: readonly HeldDemand[];
  /** How many there are, when `demands` is not all of them. */
  demandsTotal: number;
}

export interface ReplicasDecision {
  desired: number;
  /** Sentences, the weightiest first. The same input gives the same sentences. */
  because: string[];
}

/**
 * How many sets a service should have: the largest of what people want and what alerts want, within the bounds.
 * Pure: depends on nothing but its input, and not on the order of the demands.
 */
export function decideReplicas(input: DecisionInput): ReplicasDecision {
  const { replicas, bounds } = input;
  const people = `replicas is set to ${replicas}`;
  if (!bounds) {
    const ignored = `autoscale is off: ${countAlerts(input.demandsTotal)} not counted`;
    return { desired: replicas, because: input.demandsTotal > 0 ? [people, ignored] : [people] };
  }
  assert(bounds.min <= bounds.max, "a service's autoscale.min is not above its max");
  const demands = input.demands.toSorted(byWeight);
  const wanted = Math.max(replicas, demands[0]?.wantedReplicas ?? 0);
  const desired = Math.min(Math.max(wanted, bounds.min), bounds.max);
  const because = demands.slice(0, DEMANDS_NAMED_MAX).map(describeDemand);
  const unnamed = input.demandsTotal - because.length;
  if (unnamed > 0) because.push(`${countAlerts(unnamed)} held besides, for no more`);
  because.push(people);
  if (wanted > bounds.max) because.push(`autoscale.max is ${bounds.max}`);
  if (wanted < bounds.min) because.push(`autoscale.min is ${bounds.min}`);
  return { desired, because };
}

/**
 * What a rule wants of a service that had `base` replicas when the alert began. Not yet held within the service's min and
 * max, only below `replicasMax`, which no service may exceed.
 */
export function wantedReplicas(want: Want, base: number, replicasMax: number): number {
  const { replicas, step, factor } = want;
  if (replicas !== undefined) return replicas;
  if (step !== undefined) return Math.min(base + step, replicasMax);
  assert(factor !== undefined, "a want has one of replicas, step and factor");
  // Rounded to a millionth first: 10 x 1.1 is 11, although it is 11.000000000000002 in binary.
  return Math.min(Math.ceil(Math.round(base * factor * 1e6) / 1e6), replicasMax);
}

/** The first rule whose labels the alert has, all of them. */
export function findRule(
  rules: readonly HookRule[],
  labels: Readonly<Record<string, string>>,
): HookRule | undefined {
  return rules.find((rule) =>
    Object.entries(rule.match).every(
      ([name, value]) => Object.hasOwn(labels, name) && labels[name] === value,
    ),
  );
}

/** Of a character of two UTF-16 units the first alone, at the end of a text: no database stores it. */
const halfCharacter = /[\uD800-\uDBFF]$/;

/** An alert's name as people know it: `alert CpuHigh (9f2a61c7…)`, or by its key alone. */
export function nameAlert(alert: Pick<HeldDemand, "key" | "labels">): string {
  const cut = (text: string, chars: number) => text.slice(0, chars).replace(halfCharacter, "");
  const key = alert.key.length > 12 ? `${cut(alert.key, 8)}…` : alert.key;
  const name = Object.hasOwn(alert.labels, "alertname") ? alert.labels["alertname"] : undefined;
  return name === undefined || name === "" ? `alert ${key}` : `alert ${cut(name, 80)} (${key})`;
}

function describeDemand(demand: HeldDemand): string {
  const alert = `${nameAlert(demand)} on hook ${demand.hook}`;
  if (demand.state === "firing" || demand.releaseAt === null) {
    return `${alert} wants ${demand.wantedReplicas} since ${toSeconds(demand.startedAt)}`;
  }
  return `${alert} is over, its ${demand.wantedReplicas} are held until ${toSeconds(demand.releaseAt)}`;
}

function byWeight(a: HeldDemand, b: HeldDemand): number {
  if (a.wantedReplicas !== b.wantedReplicas) return b.wantedReplicas - a.wantedReplicas;
  if (a.startedAt !== b.startedAt) return a.startedAt < b.startedAt ? -1 : 1;
  return a.id < b.id ? -1 : 1;
}

function countAlerts(count: number): string {
  return count === 1 ? "1 alert is" : `${count} alerts are`;
}

/** 2026-01-05T12:00:03.123Z -> 2026-01-05T12:00:03Z */
function toSeconds(isoTime: string): string {
  return isoTime.replace(/\.\d+Z$/, "Z");
}
