import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from "vitest";
import { createDockerSetPort } from "../../src/agent/adapters/docker/docker-set-port.ts";
import type { LocalSetSpec, SetPort } from "../../src/agent/ports/set-port.ts";
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
  port = createDockerSetPort({ docker: proxy.docker, hostId, log: silentLog });
});
afterEach(async () => {
  proxy.hangs = () => false;
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
  const other = createDockerSetPort({ docker: proxy.docker, hostId, log: silentLog });
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
