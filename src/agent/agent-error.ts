/** Which step of a set's life failed; told to people with the reason. */
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

/**
 * A failed action of the agent. `temporary`: trying again may help (daemon busy or gone, registry unreachable);
 * otherwise the set itself is at fault (unknown image, command not found) and only a change of it helps.
 */
export class AgentError extends Error {
  override readonly name = "AgentError";
  readonly phase: AgentPhase;
  readonly temporary: boolean;
  /** Stable code for the set's reason, such as "image-not-found". */
  readonly code: string;

  constructor(
    code: string,
    message: string,
    options: { phase: AgentPhase; temporary: boolean; cause?: unknown },
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.phase = options.phase;
    this.temporary = options.temporary;
  }
}
