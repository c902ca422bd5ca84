import { spawn } from "node:child_process";
import { once } from "node:events";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import Docker from "dockerode";
import { afterEach, expect, it } from "vitest";
import { composeSetEngine } from "../../src/main/compose/set-engine.ts";
import type { LocalSetSpec } from "../../src/agent/model/local-set.ts";
import { newId } from "../../src/lib/ids.ts";
import { silentLog } from "../../src/lib/log.ts";
import { leftCgroups, removeHost } from "../support/docker/docker-host.ts";
import { localSet } from "../support/agent/local-set.ts";
import { waitUntil } from "../support/wait-until.ts";

const docker = new Docker();
const { signal } = new AbortController();
const hostId = newId("host");
const child = fileURLToPath(new URL("../support/agent/set-child.ts", import.meta.url));

afterEach(() => removeHost(docker, hostId));

/** Runs a process that works on the sets, and kills it after this time. */
async function workAndDie(sets: LocalSetSpec[], afterMs: number): Promise<void> {
  const dying = spawn(process.execPath, ["--import", "tsx", child, hostId, JSON.stringify(sets)], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const exited = once(dying, "exit");
  await once(dying.stdout, "data");
  await delay(afterMs); // the time of the kill varies, so this is not a wait
  dying.kill("SIGKILL");
  await exited;
}

it("the next agent converges without duplicates or remains after kill -9 between any two Docker calls", async () => {
  const sets = [localSet({ names: ["app", "side"] }), localSet(), localSet()];
  for (let round = 0; round < 14; round++) {
    await workAndDie(sets, 30 + round * 83);
    const port = composeSetEngine({ docker, hostId, log: silentLog });
    // Calls of the killed process may still be in progress in the daemon, stops included. So repeat
    // the steps until the sets run, like the agent.
    const all = await waitUntil(
      "the sets run",
      async () => {
        for (const set of sets) {
          await port.prepare(set, signal);
          await port.start(
            set,
            set.template.containers.map(({ name }) => name),
            signal,
          );
        }
        const found = await docker.listContainers({
          all: true,
          filters: { label: [`berth.host=${hostId}`] },
        });
        return found.every(({ State }) => State === "running") ? found : undefined;
      },
      { deadlineMs: 120_000 },
    );
    expect(all.flatMap(({ Names }) => Names).sort()).toEqual(
      sets
        .flatMap(({ setId, template }) =>
          ["infra", ...template.containers.map(({ name }) => name)].map(
            (name) => `/berth-${setId}-${name}`,
          ),
        )
        .sort(),
    );
    const observed = await port.observe(signal);
    expect(observed.map(({ setId }) => setId).sort()).toEqual(sets.map((set) => set.setId).sort());
  }
  const last = composeSetEngine({ docker, hostId, log: silentLog });
  for (const { setId } of await last.observe(signal)) await last.remove(setId, signal);
  expect(await last.observe(signal)).toEqual([]);
  expect(await leftCgroups(hostId)).toEqual([]);
});
