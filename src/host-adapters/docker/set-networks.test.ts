import { expect, it } from "vitest";
import { newId } from "../../lib/ids.ts";
import { silentLog } from "../../lib/log.ts";
import { createSetNetworks } from "./set-networks.ts";

it("looks twice at each network when a hundred sets are released together", async () => {
  const networkIds = Array.from({ length: 5 }, () => newId("net"));
  const looks: string[] = [];
  const { signal } = new AbortController();
  const networks = createSetNetworks({
    networks: {
      ensure: async ({ networkId }) => networkId,
      list: async () => networkIds,
      removeUnused: async (networkId) => {
        looks.push(networkId);
        return false; // containers of other sets use it
      },
    },
    bridge: {
      prepare: () => Promise.reject(new Error("no set is prepared")),
      release: async () => undefined,
      probe: () => Promise.reject(new Error("no set is probed")),
    },
    busyboxPath: "/bin/busybox",
    isDriverReady: async () => true,
    log: silentLog,
  });
  const sets = Array.from({ length: 100 }, () => newId("set"));
  await Promise.all(sets.map((setId) => networks.release(setId, signal)));
  expect(looks).toHaveLength(2 * networkIds.length);
});
