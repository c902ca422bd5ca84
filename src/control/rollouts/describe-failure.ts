import { createReason } from "../../contracts/api/reason-texts.ts";
import type { Reason } from "../../contracts/common/primitives.ts";
import type { SetFailure } from "../../scheduler/rollout/judge-sets.ts";

/** Why the update of a set failed. */
export function toFailureReason({ cause, limit }: SetFailure): Reason {
  switch (cause) {
    case "not-ready":
      return createReason("update-not-ready", { seconds: limit }, "rollout");
    case "unready":
      return createReason("update-unready", { seconds: limit }, "rollout");
    case "crash-loop":
      return createReason("update-crash-loop", { restarts: limit }, "rollout");
    case "gave-up":
      return createReason("update-gave-up", {}, "rollout");
    case "images":
      return createReason("image-not-pulled", {}, "rollout");
  }
}
