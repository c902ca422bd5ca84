import type { Log } from "../../lib/log.ts";
import type { LocalSetSpec, ObservedLocalSet } from "../model/local-set.ts";
import type { StepFailure } from "../model/step-failure.ts";
import type { ContainerFailure } from "../model/local-set.ts";
import type { SetPort } from "../ports/set-port.ts";
import { isAnyUp, type Step } from "../set/reconcile.ts";
import type { ChangeStep } from "../set/step-outcome.ts";
import type { WorkLimits } from "../base/work-limits.ts";

interface StepTools {
  port: SetPort;
  limits: Pick<WorkLimits, "steps" | "stops">;
  /** Aborted when the agent starts no more steps. */
  stopping: AbortSignal;
}

interface StepSubject {
  setId: string;
  /** The key of the set in the limits. */
  tenant: string;
  desired: LocalSetSpec | undefined;
  observed: ObservedLocalSet | undefined;
}

/**
 * Runs a step through the port, within the limits. Removal and stop need no spec. While a step
 * waits for a slot, its decision may become obsolete: then it is not run. Pulls of images occupy no
 * slot. Returns the containers that a preparation could not create.
 */
export async function runStep(
  { port, limits, stopping }: StepTools,
  { setId, tenant, desired, observed }: StepSubject,
  step: ChangeStep,
  signal: AbortSignal,
): Promise<ContainerFailure[]> {
  const isObsolete = () => signal.aborted || stopping.aborted;
  const change = <T>(call: () => Promise<T>) =>
    limits.steps(tenant, async () => (isObsolete() ? undefined : call()));
  const stop = (call: () => Promise<void>) =>
    limits.stops(tenant, async () => (isObsolete() ? undefined : call()));
  switch (step.kind) {
    case "remove":
      // Its containers may take minutes to exit, and must not occupy a slot of the steps.
      if (isAnyUp(observed)) await stop(() => port.stopAll(setId, signal));
      await change(() => port.remove(setId, signal));
      return [];
    case "stop-all":
      await stop(() => port.stopAll(setId, signal));
      return [];
    default:
  }
  if (!desired) return [];
  switch (step.kind) {
    case "prepare": {
      const options = { completed: step.completed ?? [] };
      return (await change(() => port.prepare(desired, signal, options))) ?? [];
    }
    case "resize":
      await change(() => port.resize(desired, signal));
      return [];
    case "pull":
      await port.pullImages(desired, [step.container], signal);
      return [];
    case "prepare-container": {
      const { container } = step;
      const seen = observed?.containers.find(({ name }) => name === container);
      // It may take minutes to exit, so its stop must not occupy a slot of the steps.
      const limited = seen?.state === "running" ? stop : change;
      await limited(() => port.prepareContainer(desired, container, signal));
      return [];
    }
    case "start":
      await change(() => port.start(desired, [step.container], signal));
      return [];
    case "fail":
      await stop(() => port.stop(desired, [step.container], signal));
      return [];
  }
}

/** True for steps that a set needs only while it should run. */
export function isStarting({ kind }: Step): boolean {
  return startingKinds.has(kind);
}

const startingKinds: ReadonlySet<Step["kind"]> = new Set([
  "prepare",
  "pull",
  "prepare-container",
  "start",
]);

/**
 * True if a change of the desired state makes a step pointless. A pull may take hours, so it ends
 * when the container no longer needs its image.
 */
export function isPointless(
  step: Step,
  { before, after }: { before: LocalSetSpec | undefined; after: LocalSetSpec | undefined },
  isWanted: boolean,
): boolean {
  if (step.kind === "probe") return true;
  if (isStarting(step) && !isWanted) return true;
  if (step.kind !== "pull") return false;
  return imageOf(before, step.container) !== imageOf(after, step.container);
}

function imageOf(set: LocalSetSpec | undefined, name: string): string | undefined {
  return set?.template.containers.find((container) => container.name === name)?.image;
}

/** Logs a step that failed, or that the agent aborted: then it has no failure. */
export function logUndoneStep(
  log: Log,
  fields: Record<string, unknown>,
  error: unknown,
  failure: StepFailure | undefined,
): void {
  if (!failure) return log.debug({ ...fields, outcome: "aborted" }, "set action");
  const { code } = failure.reason;
  return log.warn({ ...fields, outcome: "failed", code, err: error }, "set action");
}
