import type { HostLostPolicy } from "../../contracts/api/services.ts";

/** Why a set leaves its host. A move or a drain states whether it accepts the loss of data. */
export type DepartureCause =
  | { kind: "start-failed" }
  | { kind: "host-lost" | "host-unhealthy"; onHostLost: HostLostPolicy }
  | { kind: "move" | "drain"; discardsVolumes: boolean };

/**
 * Whether a set may restart on another host (I13). A set without a volume may. A set with a live or
 * restorable volume may not: it would restart empty, and its data would stay behind in the trash.
 * Only a user who explicitly accepts the loss, or the policy `replace-without-data`, permits that.
 */
export function mayLeaveVolume(hasVolume: boolean, cause: DepartureCause): boolean {
  if (!hasVolume) return true;
  switch (cause.kind) {
    case "start-failed":
      return false;
    case "host-lost":
    case "host-unhealthy":
      return cause.onHostLost === "replace-without-data";
    case "move":
    case "drain":
      return cause.discardsVolumes;
  }
}
