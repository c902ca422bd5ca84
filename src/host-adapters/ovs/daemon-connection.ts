import { connect, type Socket } from "node:net";
import { z } from "zod";
import { onAbort } from "../../lib/async/abort.ts";
import { SwitchError } from "../../network-driver/ports/switch-port.ts";

/** The error of a connection to a daemon. The reason is a sentence for operators. */
export function connectionError(reason: string, cause?: unknown): SwitchError {
  return new SwitchError(`Open vSwitch failed: ${reason}`, { cause });
}

interface ConnectionOptions {
  socketPath: string;
  /** The daemon that listens there. */
  daemon: string;
  timeoutMs: number;
  signal: AbortSignal;
}

/**
 * Runs `work` with a new connection to a daemon, and then closes it. So each call begins without
 * state, and a daemon that has restarted needs no special case. A connection takes less than a
 * millisecond.
 *
 * Rejects with SwitchError at the deadline and when the signal is aborted: each wait of `work` then
 * rejects. So `work` must wait for nothing but the connection. A daemon may have performed what it
 * was sent, even if the call rejects.
 */
export async function withConnection<T>(
  { socketPath, daemon, timeoutMs, signal }: ConnectionOptions,
  work: (connection: DaemonConnection) => Promise<T>,
): Promise<T> {
  const socket = connect(socketPath);
  // A wait for input reports the error.
  socket.on("error", () => undefined);
  const connection = new DaemonConnection(socket, daemon);
  let ended: SwitchError | undefined;
  const end = (reason: string): void => {
    ended ??= connectionError(reason);
    socket.destroy(ended);
  };
  const late = () =>
    end(`${connection.awaited} did not answer within ${timeoutMs} ms. Check that it runs.`);
  const timer = setTimeout(late, timeoutMs);
  const unlisten = onAbort(signal, () => end(`The call to ${daemon} was aborted.`));
  try {
    return await work(connection);
  } catch (error) {
    if (ended) throw ended;
    if (error instanceof SwitchError) throw error;
    if (isUnreadable(error))
      throw connectionError(
        `${daemon} sent an unexpected answer. Check its version and log.`,
        error,
      );
    const reason = error instanceof Error ? error.message : String(error);
    throw connectionError(`${daemon} at ${socketPath}: ${reason}. Check that it runs.`, error);
  } finally {
    clearTimeout(timer);
    unlisten();
    socket.destroy();
  }
}

/** True if an answer has an unexpected type, is not JSON, or is too short. */
function isUnreadable(error: unknown): boolean {
  return error instanceof z.ZodError || error instanceof SyntaxError || error instanceof RangeError;
}

/** A connection to a daemon, which `withConnection` ends. */
export class DaemonConnection {
  /** The daemon for which `read` waits, which the error of a missed deadline names. */
  awaited: string;
  readonly #socket: Socket;
  readonly #input: AsyncIterator<Buffer>;

  constructor(socket: Socket, daemon: string) {
    this.#socket = socket;
    this.awaited = daemon;
    this.#input = socket[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
  }

  write(content: string | Buffer): void {
    this.#socket.write(content);
  }

  /** Waits for input. Rejects if the daemon closes the connection. */
  async read(): Promise<Buffer> {
    const { done, value } = await this.#input.next();
    if (done === true) throw new Error("the connection was closed");
    return value;
  }
}
