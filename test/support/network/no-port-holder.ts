import type { PortHolder } from "../../../src/host-adapters/ovs/port-holder.ts";

/** For hosts that are namespaces: this process is outside of them, and cannot hold their ports. */
export const noPortHolder: PortHolder = {
  hold: async () => new Set(),
  isUnused: async () => true,
};
