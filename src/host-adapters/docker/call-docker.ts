import { AgentError, type AgentPhase } from "../../agent/base/agent-error.ts";
import { runAbortable } from "../../lib/async/abort.ts";
import { truncate } from "../../lib/text/truncate.ts";

/**
 * The cause of an AgentError after a refusal. It is not an Error, because a logger appends the
 * message of an Error's cause, which would repeat the daemon's message.
 */
interface DockerRefusal {
  statusCode: number;
  detail: string;
}

export interface DockerCall {
  phase: AgentPhase;
  timeoutMs: number;
}

/** Longest message of Docker that users see. */
const messageCharsMax = 500;

/**
 * Calls the daemon with a deadline. It settles at the deadline or at the abort of `signal` even if
 * the client's promise stays pending. docker-modem leaves it pending when the daemon dies during an
 * answer.
 *
 * Rejects with AgentError or with the signal's reason. The error's code is docker-unavailable
 * without an answer, else by status (see `fromStatus`).
 */
export function callDocker<T>(
  { phase, timeoutMs }: DockerCall,
  signal: AbortSignal,
  call: (abortSignal: AbortSignal) => Promise<T>,
): Promise<T> {
  const onLate = (): never => {
    throw unavailable(phase, `Docker did not answer within ${timeoutMs} ms`);
  };
  return runAbortable({ signal, deadline: { timeoutMs, onLate } }, async (abortSignal) => {
    try {
      return await call(abortSignal);
    } catch (error) {
      throw toAgentError(error, phase);
    }
  });
}

/**
 * HTTP status of the daemon's refusal in `error`; undefined without an answer, and for other
 * errors.
 */
export function dockerStatus(error: unknown): number | undefined {
  return error instanceof AgentError ? getStatus(error.cause) : undefined;
}

/**
 * The daemon's message without the wrapping of the client and the runtime, at most 500 characters.
 */
export function dockerMessage(error: unknown): string {
  const cause = error instanceof AgentError ? error.cause : error;
  return isRefusal(cause) ? cause.detail : readMessage(cause);
}

/** The refusal behind `error`, as the cause of a more specific AgentError; else `error` itself. */
export function findRefusal(error: unknown): unknown {
  return error instanceof AgentError && isRefusal(error.cause) ? error.cause : error;
}

function isRefusal(cause: unknown): cause is DockerRefusal {
  return typeof (cause as Partial<DockerRefusal> | undefined)?.detail === "string";
}

function readMessage(cause: unknown): string {
  const body = (cause as { json?: { message?: unknown } } | undefined)?.json?.message;
  const text = typeof body === "string" ? body : cause instanceof Error ? cause.message : "";
  const inner = text
    .replace(/^\(HTTP code \d+\) [^-]* - /, "")
    .replace(/^.*(?:OCI runtime create failed|runc create failed): /s, "")
    .replace(/^unable to start container process: /, "")
    .trim();
  return inner.length > messageCharsMax ? `${truncate(inner, messageCharsMax - 1)}…` : inner;
}

function toAgentError(error: unknown, phase: AgentPhase): unknown {
  if (error instanceof AgentError) return error;
  const status = getStatus(error);
  if (status !== undefined) return fromStatus(status, error, phase);
  const detail = error instanceof Error ? error.message : String(error);
  return unavailable(phase, `Docker cannot be reached: ${detail}`, error);
}

/**
 * Maps a status to an error. After a conflict or a missing object a new observation helps; after a
 * refusal (400) it does not.
 */
function fromStatus(status: number, error: unknown, phase: AgentPhase): AgentError {
  const detail = readMessage(error);
  const cause: DockerRefusal = { statusCode: status, detail };
  const message = `Docker: ${detail}`;
  if (status === 404)
    return new AgentError("not-there", message, { phase, temporary: true, cause });
  if (status === 409)
    return new AgentError("docker-conflict", message, { phase, temporary: true, cause });
  // The daemon was replaced by another version since the last negotiation.
  if (/client version \S+ is too (new|old)/.test(detail)) return unavailable(phase, message, cause);
  if (status < 500)
    return new AgentError("docker-refused", message, { phase, temporary: false, cause });
  return new AgentError("docker-error", message, { phase, temporary: true, cause });
}

function unavailable(phase: AgentPhase, message: string, cause?: unknown): AgentError {
  return new AgentError("docker-unavailable", message, { phase, temporary: true, cause });
}

function getStatus(error: unknown): number | undefined {
  const status = (error as { statusCode?: unknown } | undefined)?.statusCode;
  return typeof status === "number" ? status : undefined;
}
