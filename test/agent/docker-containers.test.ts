import { setTimeout as delay } from "node:timers/promises";
import Docker from "dockerode";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { composeSetEngine } from "../../src/main/compose/set-engine.ts";
import type { LocalSetSpec } from "../../src/agent/model/local-set.ts";
import type { SetPort } from "../../src/agent/ports/set-port.ts";
import { newId } from "../../src/lib/ids.ts";
import { silentLog } from "../../src/lib/log.ts";
import { baseImage } from "../support/docker/docker.ts";
import { execIn } from "../support/docker/docker-exec.ts";
import { leftCgroups, removeHost } from "../support/docker/docker-host.ts";
import { localSet, patientCommand, type LocalSetChanges } from "../support/agent/local-set.ts";
import { waitUntil } from "../support/wait-until.ts";

const docker = new Docker();
const { signal } = new AbortController();
let hostId: string;
let port: SetPort;

beforeEach(() => {
  hostId = newId("host");
  port = composeSetEngine({ docker, hostId, log: silentLog });
});
afterEach(() => removeHost(docker, hostId));

async function run(changes: LocalSetChanges): Promise<LocalSetSpec> {
  const set = localSet(changes);
  await port.prepare(set, signal);
  await port.start(
    set,
    set.template.containers.map(({ name }) => name),
    signal,
  );
  return set;
}

function inspect(set: LocalSetSpec, name: string): Promise<Docker.ContainerInspectInfo> {
  return docker.getContainer(`berth-${set.setId}-${name}`).inspect();
}

const inContainer = ({ setId }: LocalSetSpec, container: string, command: string) =>
  execIn(docker, { setId, container }, command);

async function addressOf(set: LocalSetSpec): Promise<string> {
  return (await port.observeSet(set.setId, signal))?.address ?? "";
}

async function readLogs(set: LocalSetSpec, name: string, tail: number): Promise<string> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of port.logs(set.setId, name, { tail, follow: false }, signal)) {
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString();
}

it("containers of a set answer HTTP on the set's own address and share its network and IPC", async () => {
  const serve = (name: string, httpPort: number) => [
    "sh",
    "-c",
    `mkdir -p /www && echo ${name} > /www/index.html && exec httpd -f -p ${httpPort} -h /www`,
  ];
  const set = localSet({ names: ["app", "side"] });
  for (const [i, container] of set.template.containers.entries()) {
    container.options.command = serve(container.name, 8080 + i);
  }
  await port.prepare(set, signal);
  await port.start(set, ["app", "side"], signal);
  const other = await run({});
  const address = await addressOf(set);
  expect(address).not.toBe(await addressOf(other));
  for (const [name, httpPort] of [
    ["app", 8080],
    ["side", 8081],
  ]) {
    const answer = await waitUntil("it answers", async () =>
      (await fetch(`http://${address}:${httpPort}/index.html`)).text(),
    );
    expect(answer.trim()).toBe(name);
  }
  expect(await inContainer(set, "side", "wget -qO- http://127.0.0.1:8080/index.html")).toBe("app");
  expect(await inContainer(set, "app", "echo shared > /dev/shm/note; cat /dev/shm/note")).toBe(
    "shared",
  );
  expect(await inContainer(set, "side", "cat /dev/shm/note")).toBe("shared");
});

it("business containers have no privileges, and only the agent restarts them", async () => {
  const set = await run({});
  const app = await inspect(set, "app");
  expect(app.HostConfig).toMatchObject({
    Privileged: false,
    SecurityOpt: ["no-new-privileges"],
    RestartPolicy: { Name: "no" },
  });
  expect(app.HostConfig.CapAdd ?? []).toEqual([]);
  expect(
    await inContainer(set, "app", "echo 1 > /proc/sys/net/ipv4/ip_forward || echo no"),
  ).toMatch(/no$/);
});

it("sysctls are applied before a business container starts", async () => {
  const set = await run({
    template: { sysctls: { "net.core.somaxconn": "1234", "kernel.shmmni": "99" } },
    options: {
      command: [
        "sh",
        "-c",
        "cat /proc/sys/net/core/somaxconn /proc/sys/kernel/shmmni; trap 'exit 0' TERM; sleep 1000 & wait",
      ],
    },
  });
  const text = await waitUntil("the container has printed", async () => {
    const said = await readLogs(set, "app", 10);
    return said.split("\n").length > 2 ? said : undefined;
  });
  expect(text).toBe("1234\n99\n");
  await port.stopAll(set.setId, signal);
  await port.prepare(set, signal);
  expect((await port.observeSet(set.setId, signal))?.infra?.state).toBe("running");
});

it("an unknown sysctl is a permanent error that names it", async () => {
  const set = localSet({ template: { sysctls: { "net.core.no_such_thing": "1" } } });
  await expect(port.prepare(set, signal)).rejects.toMatchObject({
    code: "sysctl-refused",
    temporary: false,
    message: expect.stringContaining("net.core.no_such_thing"),
  });
});

it("a command that is not in the image is named, with and without an init", async () => {
  const missing = { command: ["/bin/no-such-program"], restart: { on: "never" } };
  const set = await run({ options: missing });
  const app = await waitUntil("the container has exited", async () => {
    const [seen] = (await port.observeSet(set.setId, signal))?.containers ?? [];
    return seen?.state === "exited" ? seen : undefined;
  });
  expect(app.startFailure).toBe("exec /bin/no-such-program failed: No such file or directory");
  const bare = localSet({ options: { ...missing, init: false } });
  await port.prepare(bare, signal);
  await expect(port.start(bare, ["app"], signal)).rejects.toMatchObject({
    code: "start-failed",
    phase: "start",
    temporary: false,
    message: expect.stringMatching(/^"app" cannot be started: .*no-such-program/),
  });
});

it("orphaned processes are reaped, unless the template wants no init", async () => {
  const zombies = async (set: LocalSetSpec) =>
    (await inContainer(set, "app", "cat /proc/[0-9]*/stat")).match(/\(sleep\) Z/g)?.length ?? 0;
  const leaking = await run({ options: { command: ["sleep", "1000"], init: false } });
  const reaping = await run({ options: { command: ["sleep", "1000"] } });
  for (const set of [leaking, reaping]) await inContainer(set, "app", "(sleep 0.01 &); sleep 0.3");
  expect(await zombies(leaking)).toBe(1);
  expect(await zombies(reaping)).toBe(0);
});

it("/dev/shm has half of the set's memory, or the size of the template", async () => {
  const write = "dd if=/dev/zero of=/dev/shm/block bs=1M count=100; wc -c < /dev/shm/block";
  const byMemory = await run({ template: { memory: "512Mi" } });
  expect(await inContainer(byMemory, "app", write)).toMatch(/^104857600$/m);
  const size = async (set: LocalSetSpec) =>
    Number((await inContainer(set, "app", "df -k /dev/shm | tail -1")).split(/ +/)[1]) * 1_024;
  expect(await size(byMemory)).toBe(256 * 2 ** 20);
  expect(await size(await run({}))).toBe(64 * 2 ** 20);
  expect(await size(await run({ template: { shm: "32Mi" } }))).toBe(32 * 2 ** 20);
});

it("containers have Docker's default capabilities without NET_RAW, and those of the template", async () => {
  const has = async (set: LocalSetSpec, bit: number) => {
    const status = await inContainer(set, "app", "cat /proc/1/status");
    const bounding = BigInt(`0x${/CapBnd:\s*([0-9a-f]+)/.exec(status)?.[1] ?? ""}`);
    return (bounding & (1n << BigInt(bit))) !== 0n;
  };
  const [chown, kill, netRaw, sysNice] = [0, 5, 13, 23];
  const each = async (set: LocalSetSpec) =>
    Promise.all([chown, kill, netRaw, sysNice].map((bit) => has(set, bit)));
  expect(await each(await run({}))).toEqual([true, true, false, false]);
  const changed = await run({ options: { capAdd: ["NET_RAW", "SYS_NICE"], capDrop: ["KILL"] } });
  expect(await each(changed)).toEqual([true, false, true, true]);
  const least = await run({ options: { capAdd: ["CHOWN"], capDrop: ["ALL"] } });
  expect(await each(least)).toEqual([true, false, false, false]);
  // So ping needs no NET_RAW.
  const pingers = await inContainer(least, "app", "cat /proc/sys/net/ipv4/ping_group_range");
  expect(pingers).toBe("0\t2147483647");
});

it("a root file system may be read-only, with file systems in memory", async () => {
  const set = await run({
    options: { readOnlyRootfs: true, tmpfs: [{ mountPath: "/run/app", size: "2Mi" }] },
  });
  expect(await inContainer(set, "app", "touch /file")).toContain("Read-only file system");
  const filled = await inContainer(set, "app", "cat /dev/zero > /run/app/fill");
  expect(filled).toContain("No space left on device");
});

it("resource limits, additional hosts and the log's rotation are those of the template", async () => {
  const set = await run({
    template: { extraHosts: { "db.example": "10.1.2.3", "six.example": "fd00::1" } },
    options: {
      ulimits: { nofile: { soft: 1_000, hard: 2_000 }, core: { soft: 0, hard: 0 } },
      logging: { driver: "local", maxSize: "1Mi", maxFiles: 1 },
      command: ["sh", "-c", "echo hello; trap 'exit 0' TERM; sleep 100000 & wait"],
    },
  });
  expect(await inContainer(set, "app", "cat /proc/1/limits")).toMatch(
    /core file size +0 +0[^]*open files +1000 +2000/,
  );
  expect(await inContainer(set, "app", "cat /etc/hosts")).toMatch(
    /10\.1\.2\.3\s+db\.example[^]*fd00::1\s+six\.example/,
  );
  expect((await inspect(set, "app")).HostConfig.LogConfig).toEqual({
    Type: "local",
    Config: { "max-size": "1048576", "max-file": "1", compress: "false" },
  });
  await waitUntil(
    "the log has its line",
    async () => (await readLogs(set, "app", 1)) === "hello\n",
  );
});

it("a container that runs out of memory is reported, and infra keeps running", async () => {
  const set = await run({
    template: { memory: "64Mi" },
    options: {
      memory: 20,
      // Docker watches the memory only after the start, and misses a kill in the first moments.
      command: ["sh", "-c", "sleep 1; exec tail -c 90000000 /dev/zero"],
      restart: { on: "never" },
    },
  });
  const app = await waitUntil("the container has run out of memory", async () => {
    const observed = await port.observeSet(set.setId, signal);
    // Docker reports the exhausted memory a moment before the exit.
    return observed?.containers.find(({ oomKilled, state }) => oomKilled && state === "exited");
  });
  expect(app).toMatchObject({ name: "app", exitCode: 137, oomKills: 1 });
  expect((await port.observeSet(set.setId, signal))?.infra?.state).toBe("running");
});

it("kills for lack of memory are counted while the container keeps running", async () => {
  const watching = new AbortController();
  const watched = port.watch(() => undefined, watching.signal);
  const hungry = "tail -c 90000000 /dev/zero >/dev/null";
  const set = await run({
    template: { memory: "64Mi" },
    options: {
      memory: 20,
      command: ["sh", "-c", `${hungry}; ${hungry}; while :; do sleep 1; done`],
    },
  });
  const app = await waitUntil("two were killed", async () => {
    const [seen] = (await port.observeSet(set.setId, signal))?.containers ?? [];
    return seen?.oomKills === 2 ? seen : undefined;
  });
  expect(app).toMatchObject({ state: "running", oomKilled: false });
  // The limit is in whole pages.
  expect(app.memoryPeakBytes).toBeGreaterThan((app.limits?.memoryBytes ?? NaN) - 4_096);
  const again = composeSetEngine({ docker, hostId, log: silentLog });
  const [adopted] = (await again.observeSet(set.setId, signal))?.containers ?? [];
  expect(adopted).toMatchObject({ oomKills: 2 });
  watching.abort();
  await watched;
});

it("an observation after an event has the new state, although Docker's list has it later", async () => {
  const observations: Promise<string | undefined>[] = [];
  const stateOf = async (setId: string) =>
    (await port.observeSet(setId, signal))?.containers[0]?.state;
  const watching = new AbortController();
  const watched = port.watch((setId) => observations.push(stateOf(setId)), watching.signal);
  const set = await run({});
  const app = docker.getContainer((await inspect(set, "app")).Id);
  const afterEvent = async (change: () => Promise<unknown>) => {
    observations.length = 0;
    await change();
    return waitUntil("the watcher has observed the set after the event", () => observations[0]);
  };
  await waitUntil("the watcher receives events", async () => {
    await app.restart({ t: 0 });
    return observations.length > 0 ? true : undefined;
  });
  // Wait until the events of the restarts above have arrived.
  for (let seen = -1; seen < observations.length; await delay(500)) seen = observations.length;
  for (let round = 0; round < 5; round++) {
    expect(await afterEvent(() => app.kill())).toBe("exited");
    expect(await afterEvent(() => app.start())).toBe("running");
  }
  watching.abort();
  await watched;
});

it("I4: a foreign container with a name of Berth's is never changed", async () => {
  const set = localSet();
  const foreign = await docker.createContainer({
    name: `berth-${set.setId}-app`,
    Image: baseImage,
    Cmd: patientCommand,
    Labels: { "berth.set": set.setId },
  });
  try {
    await foreign.start();
    const error = {
      code: "name-conflict",
      temporary: false,
      message: expect.stringContaining(`berth-${set.setId}-app`),
    };
    expect(await port.prepare(set, signal)).toMatchObject([{ container: "app", error }]);
    await port.stopAll(set.setId, signal);
    await port.remove(set.setId, signal);
    expect((await foreign.inspect()).State.Running).toBe(true);
    expect(await port.observe(signal)).toEqual([]);
    expect(await leftCgroups(hostId)).toEqual([]);
  } finally {
    await foreign.remove({ force: true });
  }
});

it("containers stop by descending index with their own signal, and infra stops last", async () => {
  const set = await run({
    names: ["first", "second"],
    options: {
      stopSignal: "SIGUSR1",
      command: ["sh", "-c", "trap 'exit 42' USR1; while :; do sleep 0.05; done"],
    },
  });
  await port.stopAll(set.setId, signal);
  const observed = await port.observeSet(set.setId, signal);
  const [first, second] = observed?.containers ?? [];
  expect([first?.exitCode, second?.exitCode, observed?.infra?.exitCode]).toEqual([42, 42, 0]);
  const end = (container: { finishedAt: string | undefined } | undefined) =>
    Date.parse(container?.finishedAt ?? "");
  expect(end(second)).toBeLessThanOrEqual(end(first));
  expect(end(first)).toBeLessThanOrEqual(end(observed?.infra));
});

describe("an image with a stop signal", () => {
  const image = "berth-test/stop-signal:1";
  const command = [
    "sh",
    "-c",
    "trap 'exit 7' QUIT; trap 'exit 8' TERM; while :; do sleep 0.05; done",
  ];

  beforeEach(async () => {
    // A commit copies the stop signal of the container to the image.
    const source = await docker.createContainer({
      Image: baseImage,
      Cmd: ["true"],
      StopSignal: "SIGQUIT",
    });
    await source.commit({ repo: "berth-test/stop-signal", tag: "1" });
    await source.remove();
  });
  afterEach(() => docker.getImage(image).remove({ force: true }));

  async function stopCode(set: LocalSetSpec): Promise<number | undefined> {
    await port.stop(set, ["app"], signal);
    return (await port.observeSet(set.setId, signal))?.containers[0]?.exitCode;
  }

  it("gets its own signal, unless the template has one", async () => {
    const silent = await run({ image, options: { command } });
    expect(await stopCode(silent)).toBe(7);
    const explicit = await run({ image, options: { command, stopSignal: "SIGTERM" } });
    expect(await stopCode(explicit)).toBe(8);
  });

  it("is replaced when the template begins or ceases to override it", async () => {
    const silent = await run({ image, options: { command } });
    const changed = localSet({ image, options: { command, stopSignal: "SIGTERM" } });
    const explicit = { ...changed, setId: silent.setId };
    await port.prepareContainer(explicit, "app", signal);
    await port.start(explicit, ["app"], signal);
    expect(await stopCode(explicit)).toBe(8);
    await port.prepareContainer(silent, "app", signal);
    await port.start(silent, ["app"], signal);
    expect(await stopCode(silent)).toBe(7);
  });
});

it("a container that ignores its stop signal is killed after its timeout", async () => {
  const set = await run({
    options: { stopTimeoutSeconds: 1, command: ["sh", "-c", "trap '' TERM; sleep 1000 & wait"] },
  });
  const polite = await run({});
  const removeMs = async (setId: string): Promise<number> => {
    const startedAtMs = performance.now();
    await port.remove(setId, signal);
    return performance.now() - startedAtMs;
  };
  const politeMs = await removeMs(polite.setId);
  const tookMs = await removeMs(set.setId);
  expect(tookMs).toBeGreaterThan(900);
  // Docker's default timeout is 10 seconds.
  expect(tookMs).toBeLessThan(8_000 + 2 * politeMs);
});

it("a set whose containers obey the stop signal is removed immediately", async () => {
  const set = await run({ names: ["app", "side"], options: { stopTimeoutSeconds: 60 } });
  const startedAtMs = performance.now();
  await port.remove(set.setId, signal);
  expect(performance.now() - startedAtMs).toBeLessThan(50_000);
  expect(await leftCgroups(hostId)).toEqual([]);
});

/** Probes the container "app" as the last observation shows it. */
async function probeApp(set: LocalSetSpec, probeSignal: AbortSignal = signal) {
  const observed = await port.observeSet(set.setId, signal);
  const container = observed?.containers.find(({ name }) => name === "app");
  if (!observed || !container) throw new Error("the set has no app");
  return port.probe(set, { container, address: observed.address }, probeSignal);
}

it("probes by HTTP, TCP and exec report the fault", async () => {
  const command = [
    "sh",
    "-c",
    "mkdir -p /www && echo ok > /www/fine && exec httpd -f -p 8080 -h /www",
  ];
  const set = await run({ options: { command } });
  const probe = (health: object) => {
    const asked = localSet({ options: { command, health } });
    return probeApp({ ...asked, setId: set.setId });
  };
  await waitUntil("it listens", async () => (await probe({ tcp: { port: 8080 } })).healthy);
  expect(await probe({ http: { port: 8080, path: "/fine" } })).toEqual({ healthy: true });
  expect(await probe({ http: { port: 8080, path: "/none" } })).toMatchObject({
    healthy: false,
    detail: expect.stringContaining("404"),
  });
  expect(await probe({ tcp: { port: 8081 } })).toMatchObject({
    healthy: false,
    detail: expect.stringContaining("ECONNREFUSED"),
  });
  expect(await probe({ exec: { command: ["test", "-f", "/www/fine"] } })).toEqual({
    healthy: true,
  });
  expect(await probe({ exec: { command: ["sh", "-c", "echo broken >&2; exit 3"] } })).toEqual({
    healthy: false,
    detail: '"sh" exited with 3: broken',
  });
  const missing = await probe({ exec: { command: ["no-such-program"] } });
  expect(missing.healthy).toBe(false);
});

it("a probe that hangs ends at its timeout and leaves no process", async () => {
  const set = await run({
    options: { health: { exec: { command: ["sleep", "31"] }, timeoutSeconds: 1 } },
  });
  const startedAtMs = performance.now();
  expect(await probeApp(set)).toMatchObject({ healthy: false });
  expect(performance.now() - startedAtMs).toBeLessThan(25_000);
  const processes = await waitUntil("the check's process has exited", async () => {
    const list = await inContainer(set, "app", "ps");
    return list.includes("sleep 31") ? undefined : list;
  });
  expect(processes).toContain("sleep 100000");
});

it("a probe that times out leaves none of its processes, whatever became of their parents", async () => {
  const commands = {
    // Its shell waits for five children.
    waiting: "for i in 1 2 3 4 5; do sleep 901 & done; wait",
    // Its shell has exited, and the children hold its output open.
    orphaned: "sleep 902 & sleep 902 & exit 0",
    pipeline: "sleep 903 | sleep 903",
    detached: "setsid sleep 904 & sleep 904",
  };
  const set = await run({});
  for (const command of Object.values(commands)) {
    const health = { exec: { command: ["sh", "-c", command] }, timeoutSeconds: 1 };
    const asked = { ...localSet({ options: { health } }), setId: set.setId };
    expect(await probeApp(asked)).toMatchObject({ healthy: false });
    expect(await inContainer(set, "app", "ps")).not.toMatch(/sleep 90/);
  }
  expect(await inContainer(set, "app", "ps")).toContain("sleep 100000");
});

it("a probe that is aborted leaves no process", async () => {
  const health = { exec: { command: ["sh", "-c", "sleep 905 & wait"] }, timeoutSeconds: 60 };
  const set = await run({ options: { health } });
  const aborting = new AbortController();
  const probing = probeApp(set, aborting.signal);
  probing.catch(() => undefined);
  await waitUntil("the probe runs", async () =>
    (await inContainer(set, "app", "ps")).includes("sleep 905") ? true : undefined,
  );
  aborting.abort(new Error("another step is due"));
  await expect(probing).rejects.toThrow("another step is due");
  await waitUntil("its processes have exited", async () =>
    (await inContainer(set, "app", "ps")).includes("sleep 905") ? undefined : true,
  );
});

it("logs are demultiplexed completely and in order, and can be followed", async () => {
  const set = await run({
    options: {
      command: [
        "sh",
        "-c",
        "i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done; echo end; trap 'exit 0' TERM; sleep 1000 & wait",
      ],
    },
  });
  let followed = "";
  const following = new AbortController();
  for await (const chunk of port.logs(
    set.setId,
    "app",
    { tail: 100_000, follow: true },
    following.signal,
  )) {
    followed += Buffer.from(chunk).toString();
    if (followed.endsWith("end\n")) following.abort();
  }
  const expected = Array.from({ length: 20_000 }, (_, i) => `line ${i}\n`).join("");
  expect(followed).toBe(`${expected}end\n`);
  expect(await readLogs(set, "app", 2)).toBe("line 19999\nend\n");
});
