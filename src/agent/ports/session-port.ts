import type { SessionOpen, SessionSignal } from "../../contracts/sessions/frames.ts";
import type { SessionSocket } from "../../contracts/sessions/session-socket.ts";

/** A container of this host that a session is for. */
export interface SessionTarget {
  sessionId: string;
  setId: string;
  container: string;
}

/**
 * Sessions with business containers. A call rejects with AgentError. It touches no infra container,
 * and no container without the labels of this host (I10, I4).
 */
export interface SessionPort {
  /** Starts a program in a running container. */
  exec(target: SessionTarget, open: SessionOpen, signal: AbortSignal): Promise<SessionProcess>;
  /** Follows the output of a container's main process. It has no input. */
  attach(target: SessionTarget, signal: AbortSignal): Promise<SessionProcess>;
}

/** Output of a program. A terminal has all of it in stdout. */
export interface SessionOutput {
  stream: "stdout" | "stderr";
  bytes: Uint8Array;
}

/** A program with its streams. */
export interface SessionProcess {
  /** Ends when the program has closed its output. It reads ahead a bounded number of bytes. */
  output: AsyncIterable<SessionOutput>;
  /** Resolves when the program, or a bounded buffer, has taken the bytes. */
  write(bytes: Uint8Array): Promise<void>;
  /** Closes the standard input of the program. */
  endInput(): void;
  resize(size: { cols: number; rows: number }): Promise<void>;
  sendSignal(name: SessionSignal): Promise<void>;
  /** The exit code after the end of the output. 128 + the number of a signal that ended it. */
  exitCode(): Promise<number>;
  /**
   * Closes the streams, and ends the program with all its processes: a hangup first, and after a
   * short time a kill. The main process of a container stays. Does nothing after the end.
   */
  end(): Promise<void>;
}

/** Connects to the API for a session. The socket is paused. Makes one attempt. */
export type DialSession = (sessionId: string, signal: AbortSignal) => Promise<SessionSocket>;
