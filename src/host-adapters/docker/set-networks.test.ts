import { expect, it } from "vitest";
import { newId } from "../../lib/ids.ts";
import { silentLog } from "../../lib/log.ts";
import { createSetNetworks } from "./set-networks.ts";

const { signal } = new AbortController();

/** Releases a hundred sets together. `used` are the networks that containers of other sets use. */
async function releaseHundred(networkIds: string[], used: string[]) {
  const calls = { lists: 0, looks: [] as string[] };
  const networks = createSetNetworks({
    networks: {
      ensure: async ({ networkId }) => networkId,
      list: async () => networkIds,
      listUsed: async () => {
        calls.lists += 1;
        return new Set(used);
      },
      removeUnused: async (networkId) => {
        calls.looks.push(networkId);
        return false; // another container has just joined it
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
  return calls;
}

it("looks twice at each network when a hundred sets are released together", async () => {
  const networkIds = Array.from({ length: 5 }, () => newId("net"));
  const { lists, looks } = await releaseHundred(networkIds, []);
  expect(lists).toBe(2);
  expect(looks).toEqual([...networkIds, ...networkIds]);
});

it("checks no network that a container uses", async () => {
  const [used, ...others] = Array.from({ length: 5 }, () => newId("net")) as [string];
  const { looks } = await releaseHundred([used, ...others], [used]);
  expect(looks).toEqual([...others, ...others]);
});
