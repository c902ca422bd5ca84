import type { SetTemplate } from "../../contracts/api/set-template.ts";
import type { ObservedLocalSet } from "../model/local-set.ts";
import { isUp } from "./container-run.ts";

/** The drain time of a set with ports whose template says nothing else. */
const DRAIN_SECONDS_DEFAULT = 3;

/** The readiness of a set that this agent has reported. */
export interface Readiness {
  /** The last report said so; undefined before the first report of this agent. */
  isReady: boolean | undefined;
  /** The monotonic time of the first report that said otherwise; -Infinity if it never was. */
  leftAtMs: number;
}

export function newReadiness(): Readiness {
  return { isReady: undefined, leftAtMs: -Infinity };
}

/** A set whose description is known at least in the part that the drain time depends on. */
interface Drained {
  template: Pick<SetTemplate, "drainSeconds" | "ports" | "containers">;
}

/**
 * The drain time: how long a set leaves the endpoints before its containers stop. Other hosts learn
 * that it left them some time after this host reports it.
 */
export function computeDrainMs({ template }: Drained): number {
  const { drainSeconds, ports = [] } = template;
  return 1_000 * (drainSeconds ?? (ports.length > 0 ? DRAIN_SECONDS_DEFAULT : 0));
}

/**
 * The earliest time at which a container of the set may stop that clients use. In the past for a
 * set of which nothing runs, and for one that left the endpoints earlier.
 */
export function findDrainedAtMs(
  set: Drained | undefined,
  observed: ObservedLocalSet | undefined,
  readiness: Readiness,
  nowMs: number,
): number {
  if (!set || observed?.containers.some(isUp) === false) return -Infinity;
  const leftAtMs = mayServe(set, observed, readiness) ? nowMs : readiness.leftAtMs;
  return leftAtMs + computeDrainMs(set);
}

/** Records the readiness that the agent reports now. */
export function noteReadiness(
  readiness: Readiness,
  set: Drained | undefined,
  observed: ObservedLocalSet | undefined,
  { isReady, nowMs }: { isReady: boolean; nowMs: number },
): void {
  if (!isReady && mayServe(set, observed, readiness)) readiness.leftAtMs = nowMs;
  readiness.isReady = isReady;
}

/**
 * True if clients may use the set now. A new agent does not know the last report of the previous
 * one, so it judges by the containers.
 */
function mayServe(
  set: Drained | undefined,
  observed: ObservedLocalSet | undefined,
  { isReady }: Readiness,
): boolean {
  if (isReady !== undefined) return isReady;
  if (!set) return false;
  const required = set.template.containers.filter(isRequired);
  return required.every(({ name }) =>
    observed?.containers.some((seen) => seen.name === name && isUp(seen)),
  );
}

/** False for a container without which the set serves. */
export function isRequired({ options }: SetTemplate["containers"][number]): boolean {
  return options.serving !== "optional";
}
