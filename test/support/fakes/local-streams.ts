import { AppError, notFound } from "../../../src/contracts/common/app-error.ts";
import type { LogStreamRequest } from "../../../src/contracts/agent-protocol/log-stream-request.ts";
import type { StreamRelay } from "../../../src/control/runtime/context.ts";

interface Stream {
  chunks: Uint8Array[];
  ended: boolean;
  error: string | undefined;
  wake: () => void;
}

/**
 * Log streams within one process. A reader fails if no agent sends its log within
 * `startDeadlineMs`.
 */
export function createLocalStreams({ startDeadlineMs = 10_000 } = {}): StreamRelay {
  const requests = new Map<string, LogStreamRequest[]>();
  const streams = new Map<string, Stream>();
  const streamOf = (streamId: string): Stream => {
    const stream = streams.get(streamId);
    if (!stream) throw notFound("stream");
    return stream;
  };
  return {
    request: async (hostId, request) => {
      requests.set(hostId, [...(requests.get(hostId) ?? []), request]);
      streams.set(request.streamId, {
        chunks: [],
        ended: false,
        error: undefined,
        wake: () => undefined,
      });
    },
    takeRequests: async (hostId) => {
      const taken = requests.get(hostId) ?? [];
      requests.delete(hostId);
      return taken;
    },
    append: async (streamId, chunk) => {
      const stream = streamOf(streamId);
      stream.chunks.push(chunk);
      stream.wake();
    },
    end: async (streamId, error) => {
      const stream = streamOf(streamId);
      stream.ended = true;
      stream.error = error;
      stream.wake();
    },
    read: (streamId, signal) => readChunks(streams, streamId, signal, startDeadlineMs),
  };
}

async function* readChunks(
  streams: Map<string, Stream>,
  streamId: string,
  signal: AbortSignal,
  startDeadlineMs: number,
): AsyncGenerator<Uint8Array> {
  const stream = streams.get(streamId);
  if (!stream) throw notFound("stream");
  let isStarted = false;
  try {
    for (;;) {
      const chunk = stream.chunks.shift();
      if (chunk) {
        isStarted = true;
        if (chunk.length > 0) yield chunk; // an empty chunk only shows that the agent has begun
        continue;
      }
      if (stream.error !== undefined) {
        throw new AppError("dependency-unavailable", { detail: stream.error });
      }
      if (stream.ended || signal.aborted) return;
      const isLate = await waitForWake(stream, signal, isStarted ? undefined : startDeadlineMs);
      if (isLate) {
        throw new AppError("dependency-unavailable", { detail: "The host's agent did not come." });
      }
    }
  } finally {
    streams.delete(streamId);
  }
}

function waitForWake(
  stream: Stream,
  signal: AbortSignal,
  deadlineMs: number | undefined,
): Promise<boolean> {
  return new Promise((resolve) => {
    const timer =
      deadlineMs === undefined ? undefined : setTimeout(() => resolve(true), deadlineMs);
    const wake = () => {
      clearTimeout(timer);
      resolve(false);
    };
    stream.wake = wake;
    signal.addEventListener("abort", wake, { once: true });
  });
}
