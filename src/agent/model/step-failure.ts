import type { Reason } from "../../contracts/common/primitives.ts";
import { AgentError } from "../base/agent-error.ts";
import { truncate } from "../../lib/text/truncate.ts";

const phases = {
  prepare: "prepare",
  resize: "resize",
  start: "start",
  fail: "start",
  probe: "health",
  "stop-all": "stop",
  remove: "remove",
  observe: "observe",
} as const;
export type StepKind = keyof typeof phases;

/** The reason of a failed step, and its remedy. */
export interface StepFailure {
  reason: Reason;
  temporary: boolean;
  /** The daemon did not answer, which is not the set's fault. */
  isUnavailable: boolean;
}

/** Converts the error of a step for the history and the report. */
export function toStepFailure(error: unknown, during: StepKind): StepFailure {
  const message = error instanceof Error ? error.message : String(error);
  const text = truncate(message, 2_000);
  if (error instanceof AgentError) {
    return {
      reason: { code: error.code, text, phase: error.phase },
      temporary: error.temporary,
      isUnavailable: error.code === "docker-unavailable",
    };
  }
  return {
    reason: { code: "agent-failure", text, phase: phases[during] },
    temporary: true,
    isUnavailable: false,
  };
}
