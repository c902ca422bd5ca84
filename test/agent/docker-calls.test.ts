import { writeFile } from "node:fs/promises";
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from "vitest";
import { createDockerDisk } from "../../src/host-adapters/docker/docker-disk.ts";
import { createDockerRoot } from "../../src/host-adapters/docker/docker-root.ts";
import { composeSetEngine } from "../../src/main/compose/set-engine.ts";
import type { LocalSetSpec } from "../../src/agent/model/local-set.ts";
import type { SetPort } from "../../src/agent/ports/set-port.ts";
import { newId } from "../../src/lib/ids.ts";
import { silentLog } from "../../src/lib/log.ts";
import { localSet } from "../support/agent/local-set.ts";
import { removeHost } from "../support/docker/docker-host.ts";
import { type DockerProxy, startDockerProxy } from "../support/docker/docker-proxy.ts";

const { signal } = new AbortController();
let proxy: DockerProxy;
let hostId: string;
let port: SetPort;

beforeAll(async () => {
  proxy = await startDockerProxy();
});
afterAll(() => proxy.close());
beforeEach(() => {
  hostId = newId("host");
  port = composeSetEngine({ docker: proxy.docker, hostId, log: silentLog });
});
afterEach(async () => {
  proxy.hangs = () => false;
  proxy.answers = () => undefined;
  proxy.rewrites = () => undefined;
  await removeHost(proxy.docker, hostId);
});

async function run(set: LocalSetSpec): Promise<void> {
  await port.prepare(set, signal);
  await port.start(
    set,
    set.template.containers.map(({ name }) => name),
    signal,
  );
}

const health = (check: object) => ({ options: { health: { ...check, intervalSeconds: 1 } } });

it("a TCP or HTTP probe calls no Docker API, so it also works while Docker hangs", async () => {
  const command = [
    "/bin/sh",
    "-c",
    "mkdir -p /www; echo ok > /www/index.html; httpd -f -p 80 -h /www",
  ];
  for (const check of [{ tcp: { port: 80 } }, { http: { port: 80, path: "/" } }]) {
    const set = localSet({ options: { command, ...health(check).options } });
    await run(set);
    const observed = await port.observeSet(set.setId, signal);
    proxy.requests.length = 0;
    proxy.hangs = () => true;
    const container = observed?.containers[0];
    if (!observed || !container) throw new Error("the set runs");
    await expect
      .poll(() => port.probe(set, { container, address: observed.address }, signal))
      .toEqual({ healthy: true });
    expect(proxy.requests).toEqual([]);
    proxy.hangs = () => false;
  }
});

it("an exec probe makes three calls and lists no containers", async () => {
  const set = localSet(health({ exec: { command: ["true"] } }));
  await run(set);
  const observed = await port.observeSet(set.setId, signal);
  const container = observed?.containers[0];
  if (!observed || !container) throw new Error("the set runs");
  proxy.requests.length = 0;
  const result = await port.probe(set, { container, address: observed.address }, signal);
  expect(result).toEqual({ healthy: true });
  expect(proxy.requests).toHaveLength(3);
});

/** Watches events until the test ends, so that the port knows the containers of each set. */
async function watch(): Promise<AbortController> {
  const watching = new AbortController();
  void port.watch(() => undefined, watching.signal);
  await expect.poll(() => proxy.requests.some((request) => request.includes("/events"))).toBe(true);
  await port.observe(signal);
  return watching;
}

it("a list for one set names its containers, so that Docker does not read all", async () => {
  const watching = await watch();
  const set = localSet({ names: ["app", "log"] });
  await port.prepare(set, signal);
  proxy.requests.length = 0;
  await run(set);
  const observed = await port.observeSet(set.setId, signal);
  await port.resize(set, signal);
  await port.stop(set, ["app"], signal);
  await port.stopAll(set.setId, signal);
  const lists = proxy.requests.filter((request) => request.startsWith("GET /containers/json"));
  expect(lists.length).toBeGreaterThan(0);
  for (const { dockerId = "" } of [observed?.infra ?? {}, ...(observed?.containers ?? [])])
    for (const list of lists) expect(list).toContain(dockerId);
  watching.abort();
});

it("a resync makes one list, and inspects only containers that have changed", async () => {
  const watching = await watch();
  const sets = Array.from({ length: 4 }, () => localSet());
  await Promise.all(sets.map(run));
  /** The kinds of calls of one resync, with their numbers. */
  const countCalls = async () => {
    proxy.requests.length = 0;
    expect(await port.observe(signal)).toHaveLength(sets.length);
    const inspects = proxy.requests.filter((request) => /\/containers\/\w+\/json/.test(request));
    return { inspects: inspects.length, others: proxy.requests.length - inspects.length };
  };
  await countCalls();
  await expect.poll(countCalls).toEqual({ inspects: 0, others: 1 });
  await port.stop(sets[0] ?? localSet(), ["app"], signal);
  await expect.poll(countCalls).toEqual({ inspects: 1, others: 1 });
  await expect.poll(countCalls).toEqual({ inspects: 0, others: 1 });
  watching.abort();
});

it("a resize makes one list", async () => {
  const watching = await watch();
  const set = localSet();
  await run(set);
  proxy.requests.length = 0;
  await port.resize({ ...set, template: { ...set.template, cpuMillis: 500 } }, signal);
  expect(proxy.requests.filter((request) => request.includes("/update"))).toHaveLength(1);
  const lists = proxy.requests.filter((request) => request.startsWith("GET /containers/json"));
  expect(lists).toHaveLength(1);
  watching.abort();
});

it("a set is prepared completely although its containers change without the port", async () => {
  const watching = await watch();
  const set = localSet({ names: ["app", "log"] });
  await run(set);
  const before = await port.observeSet(set.setId, signal);
  const app = before?.containers.find(({ name }) => name === "app")?.dockerId ?? "";
  await proxy.docker.getContainer(app).remove({ force: true });
  await run(set);
  const after = await port.observeSet(set.setId, signal);
  expect(after?.containers.map(({ state }) => state)).toEqual(["running", "running"]);
  const other = composeSetEngine({ docker: proxy.docker, hostId, log: silentLog });
  await other.remove(set.setId, signal);
  await run(set);
  expect((await port.observeSet(set.setId, signal))?.containers).toHaveLength(2);
  watching.abort();
});

it("containers that Docker cannot inspect do not delay the sets of other tenants", async () => {
  const stuck = await Promise.all(
    Array.from({ length: 10 }, async () => {
      const set = { ...localSet(), tenant: "noisy" };
      await port.prepare(set, signal);
      return set;
    }),
  );
  const quiet = { ...localSet(), tenant: "quiet" };
  await run(quiet);
  const listed = await proxy.docker.listContainers({
    all: true,
    filters: { label: ["berth.tenant=noisy", `berth.host=${hostId}`] },
  });
  proxy.hangs = (request) => listed.some(({ Id }) => request === `GET /containers/${Id}/json`);
  const aborting = new AbortController();
  const observing = stuck.map(({ setId }) => port.observeSet(setId, aborting.signal));
  for (const observation of observing) observation.catch(() => undefined);
  const startedAtMs = performance.now();
  expect((await port.observeSet(quiet.setId, signal))?.containers[0]?.state).toBe("running");
  expect(performance.now() - startedAtMs).toBeLessThan(8_000);
  aborting.abort(new Error("the test ends"));
});

it("a container that Docker cannot inspect makes no other one unseen", async () => {
  const sets = [localSet({ names: ["app", "log"] }), localSet()];
  for (const set of sets) await port.prepare(set, signal);
  const [stuck] = sets;
  const listed = await proxy.docker.listContainers({
    all: true,
    filters: { label: [`berth.set=${stuck?.setId}`] },
  });
  const failing = (ids: readonly string[]) => {
    proxy.answers = (request) =>
      ids.some((id) => request === `GET /containers/${id}/json`)
        ? { status: 500, lines: [{ message: "the container is locked" }] }
        : undefined;
  };
  const app = listed.find(({ Labels }) => Labels["berth.container"] === "app");
  failing([app?.Id ?? ""]);
  const unseen: string[] = [];
  const observed = await port.observe(signal, (setId) => unseen.push(setId));
  expect(unseen).toEqual([]);
  const containers = observed.find(({ setId }) => setId === stuck?.setId)?.containers;
  expect(containers).toMatchObject([
    { name: "app", state: "created", isUnknown: true },
    { name: "log", state: "created" },
  ]);
  expect(containers?.[1]?.isUnknown).toBeUndefined();
  failing(listed.map(({ Id }) => Id));
  const others = await port.observe(signal, (setId) => unseen.push(setId));
  expect(others.map(({ setId }) => setId)).toEqual([sets[1]?.setId]);
  expect(unseen).toEqual([stuck?.setId]);
  await expect(port.observe(signal)).rejects.toThrow("the container is locked");
});

it("an exit soon after the start is observed, although the container's log cannot be read", async () => {
  const set = localSet({ options: { command: ["/bin/sh", "-c", "echo failed >&2; exit 1"] } });
  await run(set);
  const observe = async () => (await port.observeSet(set.setId, signal))?.containers[0];
  await expect.poll(observe).toMatchObject({ state: "exited", exitCode: 1 });
  const { dockerId = "" } = (await observe()) ?? {};
  const ended = { state: "exited", exitCode: 1, startFailure: undefined };
  const isLogs = (request: string) => request.includes("/logs?");
  for (const status of [200, 500]) {
    proxy.answers = (request) => (isLogs(request) ? { status, lines: ["not a frame"] } : undefined);
    expect(await observe()).toMatchObject(ended);
  }
  proxy.answers = () => undefined;
  const { LogPath } = await proxy.docker.getContainer(dockerId).inspect();
  await writeFile(LogPath, "{damaged\n");
  proxy.requests.length = 0;
  expect(await observe()).toMatchObject(ended);
  expect(proxy.requests.filter(isLogs)).toHaveLength(1);
});

it("the reason of a failed start is read again after its log could not be read, within a bound", async () => {
  const watching = new AbortController();
  let opens = 0;
  const watched = port.watch(
    () => undefined,
    watching.signal,
    () => opens++,
  );
  await expect.poll(() => opens).toBe(1);
  const isLogs = (request: string) => request.includes("/logs?");
  proxy.answers = (request) => (isLogs(request) ? { status: 500, lines: [] } : undefined);
  const command = ["/bin/no-such-program"];
  const [late, damaged] = [localSet({ options: { command } }), localSet({ options: { command } })];
  await Promise.all([run(late), run(damaged)]);
  const observe = async ({ setId }: { setId: string }) =>
    (await port.observeSet(setId, signal))?.containers[0];
  await expect.poll(() => observe(late)).toMatchObject({ state: "exited", exitCode: 127 });
  expect((await observe(late))?.startFailure).toBeUndefined();
  for (let times = 0; times < 10; times++) await observe(damaged);
  proxy.requests.length = 0;
  await observe(damaged);
  expect(proxy.requests.filter(isLogs)).toHaveLength(0);
  proxy.answers = () => undefined;
  expect((await observe(late))?.startFailure).toContain("No such file or directory");
  expect((await observe(late))?.startFailure).toContain("No such file or directory");
  watching.abort();
  await watched;
});

it("events that arrive again after a gap are announced", async () => {
  const watching = new AbortController();
  let opens = 0;
  const watched = port.watch(
    () => undefined,
    watching.signal,
    () => opens++,
  );
  await expect.poll(() => opens).toBe(1);
  proxy.cut();
  await expect.poll(() => opens, { timeout: 10_000 }).toBe(2);
  watching.abort();
  await watched;
});

it("calls have the newest version of the API that both know, after each reconnect", async () => {
  const versions = () => new Set(proxy.paths.map((path) => /^\/(v[\d.]+)\//.exec(path)?.[1] ?? ""));
  const { ApiVersion } = await proxy.docker.version();
  await port.prepare(localSet(), signal);
  proxy.paths.length = 0;
  await port.observe(signal);
  expect([...versions()]).toEqual([`v${ApiVersion}`]);
  proxy.rewrites = (request) =>
    request === "GET /version"
      ? (answer) => ({ ...(answer as object), ApiVersion: "1.60", MinAPIVersion: "1.70" })
      : undefined;
  const tooNew = composeSetEngine({ docker: proxy.docker, hostId, log: silentLog });
  await expect(tooNew.observe(signal)).rejects.toMatchObject({
    code: "not-supported",
    message: expect.stringContaining("1.70"),
  });
});

it("an answer without what the agent needs is a temporary error that names it", async () => {
  const set = localSet();
  await port.prepare(set, signal);
  proxy.rewrites = (request) =>
    /^GET \/containers\/[0-9a-f]+\/json/.test(request)
      ? (answer) => ({ ...(answer as object), State: { Status: "running" } })
      : undefined;
  await expect(port.observeSet(set.setId, signal)).rejects.toMatchObject({
    code: "docker-error",
    temporary: true,
    message: expect.stringContaining("State.Running"),
  });
});

it("a disk measurement accepts an answer without the legacy members", async () => {
  proxy.rewrites = (request) =>
    request.startsWith("GET /system/df") ? () => ({ ImageUsage: { TotalSize: 7 } }) : undefined;
  const root = await createDockerRoot(proxy.docker);
  const disk = createDockerDisk({ docker: proxy.docker, hostId, root, log: silentLog });
  expect(await disk.measure(signal)).toEqual({
    imageBytes: 0,
    containerBytes: 0,
    rootfsBytes: new Map(),
  });
});
