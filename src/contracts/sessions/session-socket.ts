/**
 * A WebSocket with binary messages, as the package `ws` has it. The composition root opens them, so
 * that no other folder imports the package.
 */
export interface SessionSocket {
  /** Bytes that wait for the network. */
  readonly bufferedAmount: number;
  /** Calls `sent` when the message is written, or cannot be. */
  send(message: Uint8Array, sent?: () => void): void;
  ping(): void;
  /** Reads no further messages until `resume`. */
  pause(): void;
  resume(): void;
  /** Sends what waits, and closes the connection. */
  close(code?: number, reason?: string): void;
  /** Ends the connection without waiting. */
  terminate(): void;
  on(event: "message", listener: (message: Uint8Array, isBinary: boolean) => void): unknown;
  on(event: "close", listener: (code: number, reason: Uint8Array) => void): unknown;
  on(event: "error", listener: (error: Error) => void): unknown;
  on(event: "ping" | "pong", listener: () => void): unknown;
}

/** Statuses of a closed WebSocket: RFC 6455, section 7.4. */
export const closeCodes = { ended: 1000, restarting: 1001, malformed: 1002, failed: 1011 } as const;

/**
 * Opens a WebSocket at an http(s) URL. The socket is paused. Rejects with SocketRefused after an
 * answer that is not a handshake.
 */
export type DialSocket = (
  url: string,
  options: { headers: Record<string, string>; signal?: AbortSignal | undefined },
) => Promise<SessionSocket>;
