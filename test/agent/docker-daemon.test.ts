import { readdir, readlink, stat } from "node:fs/promises";
import Docker from "dockerode";
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from "vitest";
import { createDockerRoot } from "../../src/host-adapters/docker/docker-root.ts";
import { composeSetEngine } from "../../src/main/compose/set-engine.ts";
import type { LocalSetSpec } from "../../src/agent/model/local-set.ts";
import type { SetPort } from "../../src/agent/ports/set-port.ts";
import { newId } from "../../src/lib/ids.ts";
import { silentLog } from "../../src/lib/log.ts";
import { ensureBaseImage } from "../support/docker/docker.ts";
import { removeHost } from "../support/docker/docker-host.ts";
import { localSet } from "../support/agent/local-set.ts";
import { type PrivateDocker, startPrivateDocker } from "../support/docker/private-docker.ts";
import { waitUntil } from "../support/wait-until.ts";

const { signal } = new AbortController();
let daemon: PrivateDocker;
let hostId: string;
let port: SetPort;

beforeAll(async () => {
  daemon = await startPrivateDocker();
  await ensureBaseImage(daemon.docker);
});
afterAll(() => daemon.close());
beforeEach(() => {
  hostId = newId("host");
  port = composeSetEngine({ docker: daemon.docker, hostId, log: silentLog });
});
afterEach(() => removeHost(daemon.docker, hostId));

async function run(set: LocalSetSpec): Promise<void> {
  await port.prepare(set, signal);
  await port.start(set, ["app"], signal);
}

it("a ping detects a hung daemon, and a call to it can be aborted", async () => {
  const set = localSet();
  await run(set);
  daemon.signal("SIGSTOP");
  try {
    const startedAtMs = performance.now();
    await expect(port.ping(300)).rejects.toMatchObject({
      code: "docker-unavailable",
      temporary: true,
    });
    const giveUp = new AbortController();
    const observing = port.observe(giveUp.signal);
    giveUp.abort(new Error("given up"));
    await expect(observing).rejects.toThrow("given up");
    expect(performance.now() - startedAtMs).toBeLessThan(20_000);
  } finally {
    daemon.signal("SIGCONT");
  }
  await port.ping(5_000);
  expect((await port.observeSet(set.setId, signal))?.containers[0]?.state).toBe("running");
});

it("a report never waits for a hung daemon, even if it hung before the agent started", async () => {
  const set = localSet();
  await run(set);
  daemon.signal("SIGSTOP");
  try {
    const late = composeSetEngine({ docker: daemon.docker, hostId, log: silentLog });
    const startedAtMs = performance.now();
    expect(await late.memoryUsage()).toEqual({});
    expect(Object.keys(await port.memoryUsage())).toContain(set.setId);
    // A call to the daemon may take 20 s.
    expect(performance.now() - startedAtMs).toBeLessThan(15_000);
    daemon.signal("SIGCONT");
    await waitUntil(
      "the memory usage of the sets is known",
      async () => set.setId in (await late.memoryUsage()),
    );
  } finally {
    daemon.signal("SIGCONT");
  }
});

it("pings of a hung daemon leave no connection open", async () => {
  const sockets = async () => {
    const files = await readdir("/proc/self/fd");
    const links = files.map((file) => readlink(`/proc/self/fd/${file}`).catch(() => ""));
    return (await Promise.all(links)).filter((link) => link.startsWith("socket:")).length;
  };
  await port.ping(5_000);
  daemon.signal("SIGSTOP");
  try {
    const before = await sockets();
    for (let i = 0; i < 5; i++) await expect(port.ping(50)).rejects.toThrow("did not answer");
    await waitUntil("the connections are closed", async () => (await sockets()) <= before);
  } finally {
    daemon.signal("SIGCONT");
  }
});

it("the daemon is queried for its folder until it has answered", async () => {
  daemon.signal("SIGSTOP");
  const root = await createDockerRoot(daemon.docker);
  const giveUp = new AbortController();
  const asking = root.find(giveUp.signal);
  giveUp.abort(new Error("given up"));
  await expect(asking).rejects.toThrow("given up");
  expect(["/", "/var/lib/docker"]).toContain(root.folder());
  daemon.signal("SIGCONT");
  await root.find(signal);
  const { DockerRootDir } = (await daemon.docker.info()) as { DockerRootDir: string };
  expect(root.folder()).toBe(DockerRootDir);
  expect(root.device()).toBe((await stat(DockerRootDir)).dev);
});

it("a stopped daemon is a temporary error, and its sets run again after its start", async () => {
  const set = localSet();
  await run(set);
  const seen = new Set<string>();
  const watching = new AbortController();
  const watch = port.watch((setId) => seen.add(setId), watching.signal);
  await daemon.kill();
  await expect(port.observe(signal)).rejects.toMatchObject({
    code: "docker-unavailable",
    temporary: true,
  });
  await expect(run(set)).rejects.toMatchObject({ code: "docker-unavailable", temporary: true });
  await daemon.start();
  await run(set);
  const observed = await port.observeSet(set.setId, signal);
  expect(observed?.infra?.state).toBe("running");
  expect(observed?.containers.map(({ state }) => state)).toEqual(["running"]);
  seen.clear();
  await waitUntil("the watcher receives events again", async () => {
    await port.stop(set, ["app"], signal);
    await port.start(set, ["app"], signal);
    return seen.has(set.setId);
  });
  watching.abort();
  await watch;
});

it("the infra image is recreated after a prune", async () => {
  await run(localSet());
  await removeHost(daemon.docker, hostId);
  const [infraImage] = (await port.images(signal)).filter((name) => name.startsWith("berth-infra"));
  await daemon.docker.getImage(infraImage ?? "").remove({ force: true });
  const set = localSet();
  await run(set);
  expect((await port.observeSet(set.setId, signal))?.infra?.state).toBe("running");
  expect(await port.images(signal)).toContain(infraImage);
});

it("a daemon may start after the agent", async () => {
  await daemon.kill();
  const early = composeSetEngine({ docker: daemon.docker, hostId, log: silentLog });
  await expect(early.ping(1_000)).rejects.toMatchObject({ code: "docker-unavailable" });
  await expect(early.observe(signal)).rejects.toMatchObject({ temporary: true });
  await daemon.start();
  const set = localSet();
  await early.prepare(set, signal);
  expect((await early.observe(signal)).map(({ setId }) => setId)).toEqual([set.setId]);
});

it("an address without a daemon is a temporary error", async () => {
  const docker = new Docker({ socketPath: "/run/berth-no-such.sock" });
  const unreachable = composeSetEngine({ docker, hostId, log: silentLog });
  await expect(unreachable.prepare(localSet(), signal)).rejects.toMatchObject({
    code: "docker-unavailable",
    temporary: true,
    message: expect.stringContaining("ENOENT"),
  });
});
