import type { LocalSetSpec, SetPort } from "./ports/set-port.ts";
import type { SetAction } from "./reconcile.ts";

/** An action that changes something or probes. */
export type Step = Exclude<SetAction, { kind: "none" | "wait" }>;

/** Runs a step through the port. Removal and stop need no spec. */
export async function runStep(
  port: SetPort,
  setId: string,
  step: Exclude<Step, { kind: "probe" }>,
  desired: LocalSetSpec | undefined,
  signal: AbortSignal,
): Promise<void> {
  if (step.kind === "remove") return port.remove(setId, signal);
  if (step.kind === "stop-all") return port.stopAll(setId, signal);
  if (!desired) return undefined;
  switch (step.kind) {
    case "prepare":
      return port.prepare(desired, signal);
    case "resize":
      return port.resize(desired, signal);
    case "start":
      return port.start(desired, step.containers, signal);
    case "fail":
      return port.stop(desired, step.containers, signal);
  }
}
