import { AppError, notFound } from "../../contracts/common/app-error.ts";
import { newId } from "../../lib/ids.ts";
import type { ControlContext } from "../runtime/context.ts";
import { getSet } from "./get-set.ts";

/**
 * Asks the set's host for a container's log and gives it as it comes: the last `tail` lines, then with `follow` what is
 * written from now on, until the reader aborts. The stream itself throws when the agent does not come within 10 s.
 * Throws not-found, state-conflict when the set is on no host.
 */
export async function openLogStream(
  ctx: ControlContext,
  scope: string | null,
  setId: string,
  container: string,
  options: { follow: boolean; tail: number },
  signal: AbortSignal,
): Promise<AsyncIterable<Uint8Array>> {
  const set = await getSet(ctx, scope, setId);
  if (!set.containers.some((known) => known.name === container)) {
    if (set.containers.length > 0 || set.host) throw notFound("container");
  }
  if (!set.host) {
    throw new AppError("state-conflict", {
      detail: "The set is on no host, so there is no log. See its explanation.",
    });
  }
  const streamId = newId("str");
  await ctx.streams.request(set.host.id, { streamId, setId, container, ...options });
  await ctx.signals.publish([`host:${set.host.id}`]);
  return ctx.streams.read(streamId, signal);
}
