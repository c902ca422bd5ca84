import type { Clock } from "../../agent/base/clock.ts";
import { callAfter } from "../../lib/async/call-after.ts";

export const systemClock: Clock = {
  nowMs: () => performance.now(),
  wallMs: () => Date.now(),
  after: callAfter,
};
