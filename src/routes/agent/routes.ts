import type { MiddlewareHandler } from "hono";
import type { ApiEnv } from "../http/api-env.ts";
import { SYNC_WAIT_MS_MAX } from "../../contracts/agent-protocol/protocol.ts";
import { type Api, mount } from "../http/operation.ts";
import { enrollHostHandler, enrollHostRoute } from "./enroll-host.ts";
import { receiveStreamHandler, receiveStreamRoute } from "./receive-stream.ts";
import { renewLeaseOfRejectedSync } from "../../control/hosts/sync-host.ts";
import type { ControlContext } from "../../control/runtime/context.ts";
import { syncHostHandler, syncHostRoute } from "./sync-host.ts";

/** A thousand sets with all their containers, and what the host holds of images. */
const SYNC_BYTES_MAX = 8 * 2 ** 20;

export function mountAgent(api: Api): void {
  mount(api, enrollHostRoute, enrollHostHandler);
  api.app.use(syncHostRoute.path, renewLeaseOfRejected(api.ctx));
  mount(api, syncHostRoute, syncHostHandler, {
    bodyBytesMax: SYNC_BYTES_MAX,
    takesAnyText: true, // a container may say anything as the reason of its failure
    timeLimitMs: SYNC_WAIT_MS_MAX + 10_000,
  });
  mount(api, receiveStreamRoute, receiveStreamHandler, { timeLimitMs: null });
}

/** Every sync renews the lease, even one that is rejected. Never changes the answer. */
function renewLeaseOfRejected(ctx: ControlContext): MiddlewareHandler<ApiEnv> {
  return async (c, next) => {
    await next();
    const host = c.get("host");
    if (!host || c.res.status < 400) return;
    await renewLeaseOfRejectedSync(ctx, host).catch((error: unknown) => {
      ctx.log.warn({ err: error, hostId: host.hostId }, "lease of a rejected sync not renewed");
    });
  };
}
