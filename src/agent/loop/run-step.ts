import { AgentError, IMAGE_MISSING } from "../base/agent-error.ts";
import type { Log } from "../../lib/log.ts";
import type { StepFailure } from "../model/step-failure.ts";
import type { LocalSetSpec, ObservedLocalSet } from "../model/local-set.ts";
import type { SetPort } from "../ports/set-port.ts";
import { isAnyUp, type SetAction } from "../set/reconcile.ts";
import type { WorkLimits } from "../base/work-limits.ts";

/** An action that changes something or probes. */
export type Step = Exclude<SetAction, { kind: "none" | "wait" }>;

/** True for steps that a set needs only while it should run. */
export function isStarting(kind: Step["kind"] | undefined): boolean {
  return kind === "prepare" || kind === "start";
}

/**
 * True if a change of the desired state makes a step pointless. A pull may take hours, so it ends
 * when no container needs its image any longer.
 */
export function isPointless(
  kind: Step["kind"] | undefined,
  { isWanted, isReplaced }: { isWanted: boolean; isReplaced: boolean },
): boolean {
  if (kind === "probe" || (kind === "prepare" && isReplaced)) return true;
  return !isWanted && isStarting(kind);
}

/** True if all images of the previous description of a set are in the next one too. */
export function needsSameImages(
  before: LocalSetSpec | undefined,
  after: LocalSetSpec | undefined,
): boolean {
  const needed = new Set(after?.template.containers.map(({ image }) => image));
  return before?.template.containers.every(({ image }) => needed.has(image)) ?? true;
}

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
 * slot.
 */
export async function runStep(
  { port, limits, stopping }: StepTools,
  { setId, tenant, desired, observed }: StepSubject,
  step: Exclude<Step, { kind: "probe" }>,
  signal: AbortSignal,
): Promise<void> {
  const isObsolete = () => signal.aborted || stopping.aborted;
  const change = (call: () => Promise<void>) =>
    limits.steps(tenant, async () => (isObsolete() ? undefined : call()));
  const stop = (call: () => Promise<void>) =>
    limits.stops(tenant, async () => (isObsolete() ? undefined : call()));
  const prepare = async (set: LocalSetSpec, options: { completed: string[] }) => {
    try {
      return await change(() => port.prepare(set, signal, options));
    } catch (error) {
      if (!(error instanceof AgentError) || error.code !== IMAGE_MISSING) throw error;
    }
    await port.pullImages(set, signal, options);
    return change(() => port.prepare(set, signal, options));
  };
  switch (step.kind) {
    case "remove":
      // Its containers may take minutes to exit, and must not occupy a slot of the steps.
      if (isAnyUp(observed)) await stop(() => port.stopAll(setId, signal));
      return change(() => port.remove(setId, signal));
    case "stop-all":
      return stop(() => port.stopAll(setId, signal));
    case "prepare":
      return desired && prepare(desired, { completed: step.completed ?? [] });
    case "resize":
      return desired && change(() => port.resize(desired, signal));
    case "start":
      return desired && change(() => port.start(desired, step.containers, signal));
    case "fail":
      return desired && stop(() => port.stop(desired, step.containers, signal));
  }
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
