/** The phase of a set's life that failed. Users see it with the reason. */
export type AgentPhase =
  | "image"
  | "volume"
  | "prepare"
  | "resize"
  | "start"
  | "health"
  | "run"
  | "stop"
  | "remove"
  | "observe";

/** Code of the error of a preparation that needs an image which the daemon lacks. */
export const IMAGE_MISSING = "image-missing";
/** Code of the error of a hook that ran and failed. */
export const HOOK_FAILED = "hook-failed";

/**
 * A failed action of the agent. `temporary`: a retry may help (daemon busy or stopped, registry
 * unreachable). Otherwise the set is at fault (unknown image, command not found) and only a change
 * of the set helps.
 */
export class AgentError extends Error {
  override readonly name = "AgentError";
  readonly phase: AgentPhase;
  readonly temporary: boolean;
  /** Stable code of the set's reason, such as "image-not-found". */
  readonly code: string;
  /** The containers of the set that the failure concerns, if an action concerns several. */
  readonly containers: readonly string[] | undefined;

  constructor(
    code: string,
    message: string,
    options: {
      phase: AgentPhase;
      temporary: boolean;
      cause?: unknown;
      containers?: readonly string[];
    },
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.phase = options.phase;
    this.temporary = options.temporary;
    this.containers = options.containers;
  }
}
