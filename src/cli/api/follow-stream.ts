import { createParser } from "eventsource-parser";
import type { ApiClient, RequestOptions } from "./api-client.ts";
import { CliError } from "../cli-error.ts";
import { exitCodes } from "../exit-codes.ts";

const BACKOFF_MIN_MS = 250;
const BACKOFF_MAX_MS = 10_000;

export interface FollowOptions<T> {
  query?: RequestOptions["query"];
  signal: AbortSignal;
  onMessage: (message: T) => void;
  /** Runs when the stream breaks, with the delay before the next connection. */
  onRetry: (error: CliError | undefined, delayMs: number) => void;
  /** Injected for tests. */
  random?: () => number;
}

/**
 * Follows a stream of messages until the signal aborts. A new connection continues after the last
 * message (Last-Event-ID), so the caller receives each event once. After a restart or a restore of
 * the database it may receive some twice. The delay between connections doubles from 250 ms to
 * 10 s, with jitter, and a message resets it. Throws CliError when a new connection cannot help:
 * invalid credentials or filters, or a URL without the API.
 */
export async function followStream<T>(
  api: ApiClient,
  path: string,
  options: FollowOptions<T>,
): Promise<void> {
  const random = options.random ?? Math.random;
  let lastEventId: string | undefined;
  let failures = 0;
  const isOver = (): boolean => options.signal.aborted;
  while (!isOver()) {
    let error: CliError | undefined;
    const openedWith = lastEventId;
    try {
      lastEventId = await readStream(api, path, options, lastEventId, (id) => {
        lastEventId = id;
      });
    } catch (thrown) {
      if (isOver()) return;
      if (!(thrown instanceof CliError) || thrown.exitCode !== exitCodes.unavailable) throw thrown;
      error = thrown;
    }
    failures = lastEventId === openedWith && error !== undefined ? failures + 1 : 0;
    const ceilingMs = Math.min(BACKOFF_MAX_MS, BACKOFF_MIN_MS * 2 ** Math.min(failures, 10));
    const delayMs = Math.round(ceilingMs * (0.5 + random() / 2));
    if (error) options.onRetry(error, delayMs);
    await pause(delayMs, options.signal);
  }
}

/** Reads one connection until it ends. Returns the id of the last event. */
async function readStream<T>(
  api: ApiClient,
  path: string,
  { query, signal, onMessage }: FollowOptions<T>,
  lastEventId: string | undefined,
  onId: (id: string) => void,
): Promise<string | undefined> {
  const response = await api.open("GET", path, {
    ...(query ? { query } : {}),
    signal,
    timeoutMs: 0,
    accept: "text/event-stream",
    ...(lastEventId === undefined ? {} : { headers: { "Last-Event-ID": lastEventId } }),
  });
  let latest = lastEventId;
  const parser = createParser({
    onEvent: ({ data }) => {
      const message = parseMessage<T>(data);
      if (message !== undefined) onMessage(message);
    },
  });
  const decoder = new TextDecoder();
  let rest = "";
  try {
    for await (const chunk of response.body ?? []) {
      const messages = (rest + decoder.decode(chunk, { stream: true })).split("\n\n");
      rest = messages.pop() ?? "";
      for (const message of messages) {
        parser.feed(`${message}\n\n`);
        // The parser drops an id without data, as the first message and heartbeats have.
        const id = /^id: ?(.+)$/m.exec(message)?.[1];
        if (id === undefined) continue;
        latest = id;
        onId(id);
      }
    }
  } catch (error) {
    throw new CliError("The connection of the event stream broke.", {
      exitCode: exitCodes.unavailable,
      cause: error,
    });
  }
  return latest;
}

function parseMessage<T>(data: string): T | undefined {
  try {
    return JSON.parse(data) as T;
  } catch {
    return undefined; // a newer API may send other messages
  }
}

async function pause(durationMs: number, signal: AbortSignal): Promise<void> {
  await new Promise<void>((resolve) => {
    const timer = setTimeout(done, durationMs);
    signal.addEventListener("abort", done, { once: true });
    function done(): void {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    }
  });
}
