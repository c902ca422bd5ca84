import { AppError, notFound } from "../../contracts/common/app-error.ts";
import type { KeyedLimit } from "../../lib/async/keyed-limit.ts";
import { newId } from "../../lib/ids.ts";
import type { ControlContext } from "../runtime/context.ts";
import { getSet } from "./get-set.ts";

const RETRY_AFTER_MS = 1_000;

export interface LogRequest {
  setId: string;
  container: string;
  follow: boolean;
  tail: number;
}

export interface LogStreamLimits {
  /** Limits the open streams of one tenant on one host. */
  tenantStreams: KeyedLimit;
  /** Called when the stream has ended. It may be called again. */
  onEnd: () => void;
}

/**
 * Requests the log of a container from the agent of its host. Yields the last `tail` lines, and
 * with `follow` all further lines until `signal` aborts. The stream throws when the agent does not
 * answer within 10 s. Throws not-found, state-conflict for a set without a host, and rate-limited.
 */
export async function openLogStream(
  ctx: ControlContext,
  { tenantStreams, onEnd }: LogStreamLimits,
  scope: string | null,
  { setId, container, ...options }: LogRequest,
  signal: AbortSignal,
): Promise<AsyncIterable<Uint8Array>> {
  const set = await getSet(ctx, scope, setId);
  if (!set.containers.some((known) => known.name === container)) {
    if (set.containers.length > 0 || set.host) throw notFound("container");
  }
  if (!set.host) {
    throw new AppError("state-conflict", {
      detail: "The set has no host, so there is no log. See its explanation.",
    });
  }
  const leave = tenantStreams.tryEnter(`${set.host.id} ${set.tenant}`);
  if (!leave) {
    throw new AppError("rate-limited", {
      detail:
        "The tenant has too many open logs on this host. End one, or retry the request later.",
      retryAfterMs: RETRY_AFTER_MS,
    });
  }
  const end = (): void => {
    leave();
    onEnd();
  };
  try {
    const streamId = newId("str");
    await ctx.streams.request(set.host.id, { streamId, setId, container, ...options });
    await ctx.signals.publish([`host:${set.host.id}`]);
    signal.addEventListener("abort", end, { once: true });
    return endWith(ctx.streams.read(streamId, signal), end);
  } catch (error) {
    end();
    throw error;
  }
}

async function* endWith(chunks: AsyncIterable<Uint8Array>, onEnd: () => void) {
  try {
    yield* chunks;
  } finally {
    onEnd();
  }
}
