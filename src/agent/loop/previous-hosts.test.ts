import { expect, it } from "vitest";
import { silentLog } from "../../lib/log.ts";
import { PreviousHosts } from "./previous-hosts.ts";

it("removes each deleted host once, retries a failure, and never removes its own", async () => {
  const calls: string[] = [];
  let isFailing = true;
  const hosts = new PreviousHosts({
    hostId: "host_own",
    port: {
      remove: async (hostId) => {
        calls.push(hostId);
        if (hostId === "host_b" && isFailing) throw new Error("Docker does not respond");
      },
    },
    log: silentLog,
    onRemoved: () => undefined,
  });
  const { signal } = new AbortController();
  hosts.note(["host_a", "host_b", "host_own"], signal);
  hosts.note(["host_a", "host_b", "host_own"], signal); // the first call is in progress
  await hosts.settled();
  expect(calls).toEqual(["host_a", "host_b"]);
  isFailing = false;
  for (let answer = 0; answer < 3; answer++) {
    hosts.note(["host_a", "host_b", "host_own"], signal);
    await hosts.settled();
  }
  expect(calls).toEqual(["host_a", "host_b", "host_b"]);
});
