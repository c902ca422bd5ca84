import { SYNC_WAIT_MS_MAX } from "../../contracts/agent-protocol/protocol.ts";
import { type Api, mount } from "../http/operation.ts";
import { enrollHostHandler, enrollHostRoute } from "./enroll-host.ts";
import { receiveStreamHandler, receiveStreamRoute } from "./receive-stream.ts";
import { syncHostHandler, syncHostRoute } from "./sync-host.ts";

/** A thousand sets with all their containers, and what the host holds of images. */
const SYNC_BYTES_MAX = 8 * 2 ** 20;

export function mountAgent(api: Api): void {
  mount(api, enrollHostRoute, enrollHostHandler);
  mount(api, syncHostRoute, syncHostHandler, {
    bodyBytesMax: SYNC_BYTES_MAX,
    takesAnyText: true, // a container may say anything as the reason of its failure
    timeLimitMs: SYNC_WAIT_MS_MAX + 10_000,
  });
  mount(api, receiveStreamRoute, receiveStreamHandler, { timeLimitMs: null });
}
