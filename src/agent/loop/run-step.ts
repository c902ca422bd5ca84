import { truncate } from "../../lib/text/truncate.ts";
import { AgentError, HOOK_FAILED } from "../base/agent-error.ts";
import type { LocalSetSpec, ObservedLocalSet } from "../model/local-set.ts";
import { type StepFailure, toStepFailure } from "../model/step-failure.ts";
import type { ContainerFailure } from "../model/local-set.ts";
import { startsOneShot } from "../set/persisted-history.ts";
import type { RetriedStep } from "../set/step-outcome.ts";
import { isAnyUp, type Step } from "../set/steps.ts";
import type { SetRunnerContext } from "./set-runner-context.ts";

type StepTools = Pick<
  SetRunnerContext,
  "port" | "limits" | "stopping" | "clock" | "log" | "persistedHistorySettled" | "onResized"
>;

interface StepSubject {
  setId: string;
  /** The key of the set in the limits. */
  tenant: string;
  desired: LocalSetSpec | undefined;
  observed: ObservedLocalSet | undefined;
}

/** The containers that a preparation could not create, or the failure of the step. */
type StepOutcome = { failed: ContainerFailure[]; failure?: undefined } | { failure: StepFailure };

/** Runs a step and logs its outcome; undefined if the step was aborted. */
export async function tryStep(
  tools: StepTools,
  subject: StepSubject,
  step: RetriedStep,
  signal: AbortSignal,
): Promise<StepOutcome | undefined> {
  const { clock, log } = tools;
  const { setId, desired } = subject;
  const startedAtMs = clock.nowMs();
  const container = "container" in step ? step.container : undefined;
  const describe = (outcome: string) => ({
    setId,
    generation: desired?.generation,
    action: step.kind,
    container,
    outcome,
    durationMs: Math.round(clock.nowMs() - startedAtMs),
  });
  try {
    // Otherwise the next agent might not know that this container has run.
    if (desired && step.kind === "start" && startsOneShot(desired.template, [step.container]))
      await tools.persistedHistorySettled();
    const failed = await runStep(tools, subject, step, signal);
    signal.throwIfAborted();
    log.info(describe("done"), "set action");
    if (step.kind === "resize") tools.onResized();
    return { failed };
  } catch (error) {
    if (signal.aborted) {
      log.debug(describe("aborted"), "set action");
      return undefined;
    }
    const failure = toStepFailure(error, step.kind);
    log.warn({ ...describe("failed"), code: failure.reason.code, err: error }, "set action");
    return { failure };
  }
}

/**
 * Runs a step through the port, within the limits. Removal and stop need no spec. While a step
 * waits for a slot, it may be aborted: then it is not run. Pulls of images occupy no
 * slot. Returns the containers that a preparation could not create.
 */
async function runStep(
  { port, limits, stopping }: StepTools,
  { setId, tenant, desired, observed }: StepSubject,
  step: RetriedStep,
  signal: AbortSignal,
): Promise<ContainerFailure[]> {
  const isAborted = () => signal.aborted || stopping.aborted;
  const change = <T>(call: () => Promise<T>) =>
    limits.steps(tenant, async () => (isAborted() ? undefined : call()));
  const stop = (call: () => Promise<void>) =>
    limits.stops(tenant, async () => (isAborted() ? undefined : call()));
  switch (step.kind) {
    case "remove":
      // Its containers may take minutes to exit, and must not occupy a slot of the steps.
      if (isAnyUp(observed)) await stop(() => port.stopAll(setId, signal, { set: desired }));
      await change(() => port.remove(setId, signal, { set: desired }));
      return [];
    case "stop-all":
      await stop(() => port.stopAll(setId, signal, { set: desired, skipsHooks: step.isUrgent }));
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
    case "start": {
      // A second start of a container that restarts anyway does no harm.
      const isOneShot = startsOneShot(desired.template, [step.container]);
      const options = isOneShot ? { seen: observed } : {};
      await change(() => port.start(desired, [step.container], signal, options));
      return [];
    }
    case "post-start": {
      const container = observed?.containers.find(({ name }) => name === step.container);
      if (!container) return [];
      const target = { container, address: observed?.address };
      const run = async () => (isAborted() ? undefined : port.postStart(desired, target, signal));
      const result = await limits.execProbes(tenant, run);
      if (result && !result.healthy) throw createHookFailed(step.container, result.detail);
      return [];
    }
    case "stop-failed-start":
      await stop(() => port.stop(desired, [step.container], signal));
      return [];
  }
}

function createHookFailed(name: string, detail: string): AgentError {
  const message = truncate(`the hook after the start of "${name}" failed: ${detail}`, 2_000);
  return new AgentError(HOOK_FAILED, message, { phase: "start", temporary: true });
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
  "post-start",
]);

/**
 * True if a change of the desired state supersedes a step. A pull may take hours, so it ends
 * when the container no longer needs its image.
 */
export function isSuperseded(
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
