import type { MiddlewareHandler } from "hono";
import type { ApiEnv } from "../http/api-env.ts";
import { SYNC_WAIT_MS_MAX } from "../../contracts/agent-protocol/protocol.ts";
import { type Api, mount } from "../http/operation.ts";
import { connectSessionHandler, connectSessionRoute } from "./connect-session.ts";
import { enrollHostHandler, enrollHostRoute } from "./enroll-host.ts";
import { proveRefusals } from "./prove-refusals.ts";
import { readHostNetworksHandler, readHostNetworksRoute } from "./read-host-networks.ts";
import { receiveStreamHandler, receiveStreamRoute } from "./receive-stream.ts";
import { takeNextCredentialHandler, takeNextCredentialRoute } from "./take-next-credential.ts";
import { renewLeaseAfterRejectedSync } from "../../control/hosts/sync-host.ts";
import { NetworkFeeds } from "../../control/networks/network-feeds.ts";
import type { ControlContext } from "../../control/runtime/context.ts";
import { syncHostHandler, syncHostRoute } from "./sync-host.ts";

/** Enough for a report of 1,000 sets with all their containers, and of all images of the host. */
const SYNC_BYTES_MAX = 8 * 2 ** 20;

export function mountAgent(api: Api): void {
  api.app.use("/agent/v1/*", proveRefusals);
  mount(api, enrollHostRoute, enrollHostHandler);
  mount(api, takeNextCredentialRoute, takeNextCredentialHandler);
  api.app.use(syncHostRoute.path, renewLeaseAfterRejection(api.ctx));
  mount(api, syncHostRoute, syncHostHandler, {
    bodyBytesMax: SYNC_BYTES_MAX,
    acceptsAnyText: true, // programs in containers write the reasons of failures
    timeLimitMs: SYNC_WAIT_MS_MAX + 10_000,
  });
  mount(api, readHostNetworksRoute, readHostNetworksHandler(new NetworkFeeds(api.ctx)), {
    timeLimitMs: SYNC_WAIT_MS_MAX + 10_000,
  });
  mount(api, receiveStreamRoute, receiveStreamHandler, { timeLimitMs: null });
  mount(api, connectSessionRoute, connectSessionHandler);
}

/** Renews the lease of a host whose sync is rejected. Never changes the response. */
function renewLeaseAfterRejection(ctx: ControlContext): MiddlewareHandler<ApiEnv> {
  return async (c, next) => {
    await next();
    const host = c.get("host");
    if (!host || c.res.status < 400) return;
    await renewLeaseAfterRejectedSync(ctx, host).catch((error: unknown) => {
      ctx.log.warn(
        { err: error, hostId: host.hostId },
        "cannot renew the lease of a host whose sync was rejected",
      );
    });
  };
}
