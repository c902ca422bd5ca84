import type { SessionSocket } from "../../contracts/sessions/session-socket.ts";
import type { ControlContext } from "../runtime/context.ts";
import type { OpenedSession } from "./open-session.ts";
import { OwnedSession } from "./owned-session.ts";

/** Runs an opened session with the connection of its caller, until one of the two ends. */
export function runSession(
  ctx: ControlContext,
  { session, agent, leave }: OpenedSession,
  caller: SessionSocket,
  isPermitted: () => Promise<boolean>,
): void {
  const { live } = ctx.sessions;
  const owned = new OwnedSession(
    ctx,
    { caller, agent },
    {
      session,
      idleSeconds: ctx.settings.sessionIdleSeconds,
      isPermitted,
      onEnd: () => {
        leave();
        live.remove(owned);
      },
    },
  );
  live.add(owned);
}
