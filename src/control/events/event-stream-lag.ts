import {
  type EventStreamLag,
  readEventStreamLag as read,
} from "../../db/queries/events/read-events.ts";
import type { ControlContext } from "../runtime/context.ts";

/** Streams that lag longer than this show an old transaction that an operator should end. */
const LAG_WARNING_SECONDS = 60;

/** Reads for how long an old transaction has delayed events in streams. */
export function readEventStreamLag({ db }: Pick<ControlContext, "db">): Promise<EventStreamLag> {
  return read(db);
}

/** Logs a warning with the oldest transaction while streams lag for more than a minute. */
export async function watchEventStreamLag(ctx: Pick<ControlContext, "db" | "log">): Promise<void> {
  const lag = await readEventStreamLag(ctx);
  if (lag.ageSeconds < LAG_WARNING_SECONDS) return;
  ctx.log.warn({ ...lag }, "an old transaction delays events in streams");
}
