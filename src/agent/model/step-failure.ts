import type { Reason } from "../../contracts/common/primitives.ts";
import { AgentError, IMAGE_MISSING } from "../base/agent-error.ts";
import { truncate } from "../../lib/text/truncate.ts";

const phases = {
  prepare: "prepare",
  pull: "image",
  "prepare-container": "prepare",
  resize: "resize",
  start: "start",
  "post-start": "start",
  "stop-failed-start": "start",
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
  /** The daemon lacks an image, so a pull must precede the next try. */
  needsImage?: boolean;
  /** The containers that lack their image, if the error names them. */
  containers?: readonly string[] | undefined;
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
      needsImage: error.code === IMAGE_MISSING,
      containers: error.containers,
    };
  }
  return {
    reason: { code: "agent-failure", text, phase: phases[during] },
    temporary: true,
    isUnavailable: false,
  };
}
