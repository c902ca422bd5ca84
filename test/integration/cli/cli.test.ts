import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { JobRequest } from "../../../src/contracts/jobs.ts";
import type { Host } from "../../../src/contracts/api/hosts.ts";
import type { Service } from "../../../src/contracts/api/services.ts";
import type { BerthSet } from "../../../src/contracts/api/sets.ts";
import { autoscaleService } from "../../../src/control/autoscaling/autoscale-service.ts";
import { createMover } from "../../../src/control/operations/move-sets.ts";
import { createPlacer } from "../../../src/control/placement/place-pending-sets.ts";
import { reconcileService } from "../../../src/control/replicas/reconcile-replicas.ts";
import { berth as runBerth, type CliRunOptions } from "../../support/cli/cli-harness.ts";
import { enrollProtocolHosts, type ProtocolHosts } from "../../support/fleet/protocol-hosts.ts";
import { waitUntil } from "../../support/wait-until.ts";
import { createTestApi, type TestApi } from "../../support/api/test-api.ts";

/** The command line against the real API on a real database, with hosts that use the protocol. */
let api: TestApi;
let hosts: ProtocolHosts;
let folder = "";
const keepGoing = new AbortController();
let background: Promise<void> = Promise.resolve();

beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "berth-cli-"));
  api = await createTestApi();
  hosts = await enrollProtocolHosts(api, ["alpha", "beta"]);
  background = runFleet();
});
afterAll(async () => {
  keepGoing.abort();
  await background;
  await api.close();
  await rm(folder, { recursive: true });
});

/** Runs jobs, placement and syncs in a loop, like a job worker and the agents. */
async function runFleet(): Promise<void> {
  const placer = createPlacer(api.ctx);
  const mover = createMover(api.ctx);
  while (!keepGoing.signal.aborted) {
    for (const job of api.enqueued.splice(0)) await runJob(job);
    await placer.placeSets();
    await mover.moveSets();
    await hosts.syncAll();
    await delay(5);
  }
}

async function runJob({ name, payload }: JobRequest): Promise<void> {
  const serviceId = String(payload["serviceId"]);
  if (name === "reconcile-service") await reconcileService(api.ctx, serviceId);
  if (name === "autoscale-service") await autoscaleService(api.ctx, serviceId);
}

async function berth(argv: readonly string[], options: Partial<CliRunOptions> = {}) {
  return await runBerth(argv, {
    fetch: async (url, init) => await api.api.app.request(url, init),
    ...options,
    settings: { token: api.adminToken, ...options.settings },
  });
}

/**
 * Runs a command with JSON output, and returns its document. Throws stderr if the command fails.
 */
async function berthJson<T>(...argv: string[]): Promise<T> {
  const run = await berth([...argv, "-o", "json"]);
  if (run.exitCode !== 0) throw new Error(run.stderr);
  return JSON.parse(run.stdout) as T;
}

const manifest = (name: string, more = "replicas: 2"): string => `name: ${name}
template:
  cpu: 0.1
  memory: 64Mi
  rootfs: 64Mi
  containers:
    - { index: 0, name: app, image: "menu:42", options: { cpu: 100, memory: 100 } }
${more}
`;

async function apply(text: string, ...args: string[]) {
  const file = path.join(folder, "manifest.yaml");
  await writeFile(file, text);
  return await berth(["apply", "-f", file, ...args]);
}

describe("apply", () => {
  test("creates, waits until the sets run, and does nothing the second time", async () => {
    const first = await apply(manifest("first"), "--wait", "--timeout", "20s");
    expect(first.stderr).toMatch(/first {2}settled after/);
    expect(first.stdout).toContain("service/first created\n");
    expect(first.exitCode).toBe(0);
    const before = await berthJson<Service>("get", "service", "first");
    expect(before.counts.ready).toBe(2);

    const second = await apply(manifest("first"));
    expect(second).toEqual({ exitCode: 0, stdout: "service/first unchanged\n", stderr: "" });
    expect(await berthJson<Service>("get", "service", "first")).toEqual(before);
  });

  test("changes only the differences; a member that the file omits gets its default", async () => {
    await apply(manifest("second", "replicas: 2\nautoscale: { min: 1, max: 4 }\npriority: 7"));
    const changed = await apply(manifest("second", "replicas: 3\nautoscale: { min: 1, max: 4 }"));
    expect(changed.stdout).toContain("service/second changed (priority, replicas)\n");
    const after = await berthJson<Service>("get", "service", "second");
    expect(after).toMatchObject({ priority: 100, replicas: 3, revision: 1 });
    const unchanged = await apply(manifest("second", "autoscale: { min: 1, max: 4 }"));
    expect(unchanged.stdout).toBe("service/second unchanged\n");
  });

  test.each([
    [
      "up",
      "replicas: 2\nautoscale: { min: 1, max: 3 }",
      "replicas: 6\nautoscale: { min: 5, max: 8 }",
    ],
    [
      "down",
      "replicas: 6\nautoscale: { min: 5, max: 8 }",
      "replicas: 2\nautoscale: { min: 1, max: 3 }",
    ],
    [
      "to overlapping ones",
      "replicas: 3\nautoscale: { min: 1, max: 4 }",
      "replicas: 4\nautoscale: { min: 4, max: 9 }",
    ],
    ["away", "replicas: 3\nautoscale: { min: 1, max: 4 }", "replicas: 9"],
  ])("moves replicas and bounds %s together", async (name, before, after) => {
    const service = `bounds-${name.replaceAll(" ", "-")}`;
    await apply(manifest(service, before));
    const run = await apply(manifest(service, after));
    expect(run.stderr).toBe("");
    expect(run.exitCode).toBe(0);
    expect((await apply(manifest(service, after))).stdout).toBe(`service/${service} unchanged\n`);
  });

  test("a rejected document is reported with its file and position, and other documents stay applied", async () => {
    const network = manifest("with-network").replace(
      "  containers:",
      "  networks: [{ network: backend }]\n  containers:",
    );
    const run = await apply(`${manifest("third")}---\n${network}`);
    expect(run.exitCode).toBe(2);
    expect(run.stdout).toContain("service/third created");
    expect(run.stderr).toMatch(/manifest\.yaml:\d+: /);
    expect(run.stderr).toContain("request ");
    expect(run.stderr).not.toContain("    at ");
  });
});

describe("scale, plan, explain", () => {
  test("scale is absolute and waits, and a plan shows its effects beforehand", async () => {
    await apply(manifest("fourth", "replicas: 1"));
    const plan = await berth(["plan", "scale", "fourth", "4"]);
    expect(plan.exitCode).toBe(0);
    expect(plan.stdout).toMatch(/alpha|beta/);
    const scaled = await berth(["scale", "fourth", "4", "--wait", "--timeout", "20s"]);
    expect(scaled).toMatchObject({ exitCode: 0 });
    expect(scaled.stdout).toContain("service/fourth scaled\n");
    const sets = await berthJson<{ id: string; state: string }[]>(
      "get",
      "sets",
      "--service",
      "fourth",
    );
    expect(sets.map(({ state }) => state)).toEqual(Array(4).fill("running"));
    const explained = await berth(["explain", sets[0]?.id ?? ""]);
    expect(explained.stdout).toMatch(/alpha|beta/);
  });

  test("a service that fits nowhere says why, and waiting for it ends with exit code 6", async () => {
    const big = manifest("too-big", "replicas: 2").replace("cpu: 0.1", "cpu: 500");
    await apply(big);
    const waited = await berth(["wait", "service", "too-big", "--timeout", "2s"]);
    expect(waited.exitCode).toBe(6);
    const explained = await berth(["explain", "too-big"]);
    expect(explained.stdout).toContain("0 of 2 sets ready");
    expect(explained.stdout).toContain("Reasons why sets do not run");
    expect(explained.stdout).toMatch(/cpu/i);
  });

  test("plan -f of a new service commits nothing", async () => {
    const file = path.join(folder, "planned.yaml");
    await writeFile(file, manifest("only-planned"));
    expect((await berth(["plan", "-f", file])).exitCode).toBe(0);
    expect((await berth(["get", "service", "only-planned"])).exitCode).toBe(3);
  });
});

describe("sets and hosts", () => {
  test("stops, starts and deletes a set, and waits for each change", async () => {
    await apply(manifest("fifth", "replicas: 1"), "--wait", "--timeout", "20s");
    const [set] = await berthJson<{ id: string }[]>("get", "sets", "--service", "fifth");
    const id = set?.id ?? "";
    const stopped = await berth(["set", "stop", id, "--wait", "--timeout", "20s"]);
    expect(stopped).toMatchObject({ exitCode: 0 });
    expect(stopped.stdout).toMatch(/ stopped /);
    expect((await berth(["set", "start", id, "--wait", "--timeout", "20s"])).stdout).toMatch(
      / ready /,
    );
    const deleted = await berth(["delete", "set", id, "--wait", "--timeout", "20s"]);
    expect(deleted).toMatchObject({ exitCode: 0, stdout: `${id} is being deleted\n` });
  });

  test("resizes a service and waits for it; a moved set is replaced by another", async () => {
    await apply(manifest("resized", "replicas: 1"), "--wait", "--timeout", "20s");
    const change = await berth(["resize", "resized", "--cpu", "0.2", "--wait", "--timeout", "20s"]);
    expect(change).toMatchObject({ exitCode: 0 });
    expect(change.stdout).toMatch(/resize 1 set in place to 0\.2 cores, [\d.]+ MiB of memory,/);
    const sets = () => berthJson<BerthSet[]>("get", "sets", "--service", "resized");
    const [set] = await sets();
    expect(set).toMatchObject({ cpuMillis: 200, resizeApplied: true });
    const moved = await berth(["set", "move", set?.id ?? "", "--wait", "--timeout", "20s"]);
    expect(moved).toMatchObject({ exitCode: 0 });
    const [other, ...more] = await sets();
    expect(more).toEqual([]);
    expect(other).toMatchObject({ ready: true, moving: false, cpuMillis: 200 });
    expect(other?.host?.name).not.toBe(set?.host?.name);
  });

  test("a resize that is refused on a host ends the wait with the reason and exit code 1", async () => {
    await apply(manifest("refused", "replicas: 1"), "--wait", "--timeout", "20s");
    hosts.refusedMemoryBytes = 32 * 2 ** 20;
    try {
      const run = await berth([
        "resize",
        "refused",
        "--memory",
        "32Mi",
        "--wait",
        "--timeout",
        "20s",
      ]);
      expect(run).toMatchObject({ exitCode: 1 });
      expect(run.stderr).toContain("Not all sets of refused have the new size");
      expect(run.stderr).toContain("it uses more");
    } finally {
      hosts.refusedMemoryBytes = undefined;
    }
    const [set] = await berthJson<BerthSet[]>("get", "sets", "--service", "refused");
    const reason = { code: "resize-refused" };
    expect(set).toMatchObject({
      memoryBytes: 64 * 2 ** 20,
      resizeApplied: true,
      revision: 1,
      reason,
    });
  });

  test("a host is selected by its name: cordoned, uncordoned, unknown", async () => {
    expect((await berth(["cordon", "beta"])).stdout).toMatch(/beta +ready, cordoned/);
    expect((await berth(["uncordon", "beta"])).stdout).toMatch(/beta +ready /);
    const unknown = await berth(["cordon", "gamma"]);
    expect(unknown).toMatchObject({ exitCode: 3, stdout: "" });
  });

  test("the machine of a host is accepted by the name of the host", async () => {
    expect((await berth(["accept-machine", "beta"])).stdout).toMatch(/beta +ready /);
    expect(await berth(["accept-machine", "gamma"])).toMatchObject({ exitCode: 3, stdout: "" });
  });

  test("labels and taints of a host are added and removed, and others stay", async () => {
    expect((await berth(["label", "beta", "disk=nvme", "gpu=a100"])).exitCode).toBe(0);
    await berth(["label", "beta", "gpu-"]);
    const tainted = await berth(["taint", "beta", "maintenance=soon"]);
    expect(tainted.stderr).toBe("");
    const host = await berthJson<Host>("get", "host", "beta");
    expect(host).toMatchObject({
      labels: { disk: "nvme" },
      taints: [{ key: "maintenance", value: "soon" }],
    });
    await berth(["taint", "beta", "maintenance-"]);
    expect((await berthJson<Host>("get", "host", "beta")).taints).toEqual([]);
  });

  test("a drain that waits shows the operation of each set, and force ends the wait", async () => {
    await apply(manifest("drained", "replicas: 1"), "--wait", "--timeout", "20s");
    const [set] = await berthJson<BerthSet[]>("get", "sets", "--service", "drained");
    const [id, host] = [set?.id ?? "", set?.host?.name ?? ""];
    const other = host === "alpha" ? "beta" : "alpha";
    await berth(["cordon", other]);
    try {
      const run = await berth(["drain", host, "--deadline", "10m"]);
      expect(run.stdout).toContain("ready, draining");
      const table = await waitUntil("the set waits for capacity", async () => {
        const { stdout } = await berth(["get", "sets", "--service", "drained"]);
        return /OPERATION/.test(stdout) && stdout;
      });
      expect(table).toMatch(/ move, waiting /);
      const explained = await waitUntil("the set says why it waits", async () => {
        const { stdout } = await berth(["explain", id]);
        return stdout.includes("[move-held]") && stdout;
      });
      expect(explained).toContain("Operation: move for the drain of its host, waiting since 20");

      await berth(["drain", host, "--force"]);
      await waitUntil("the set waits without a host", async () => {
        const [pending] = await berthJson<BerthSet[]>("get", "sets", "--service", "drained");
        return pending?.id === id && pending.host === null;
      });
    } finally {
      for (const name of ["alpha", "beta"]) await berth(["uncordon", name]);
    }
    await berth(["delete", "service", "drained", "--wait", "--timeout", "20s"]);
  });

  test("percentages of a pool are changed one by one", async () => {
    await berth(["pool", "set", "default", "--overcommit", "cpu=200"]);
    const run = await berth(["pool", "set", "default", "--high-water", "memory=80"]);
    expect(run.stdout).toContain("cpu 200, memory 100, volume 100, rootfs 100");
    expect(run.stdout).toContain("cpu 100, memory 80, volume 100, rootfs 90");
    expect((await berth(["pool", "set", "default", "--overcommit", "luck=7"])).exitCode).toBe(2);
  });

  test("deletes a service with all its sets; it is then not found", async () => {
    await apply(manifest("sixth"), "--wait", "--timeout", "20s");
    const run = await berth(["delete", "service", "sixth", "--wait", "--timeout", "20s"]);
    expect(run.stderr).toMatch(/sixth {2}deleted after/);
    const missing = await berth(["get", "service", "sixth"]);
    expect(missing.exitCode).toBe(3);
    expect(missing.stderr).toContain("error: ");
  });
});

describe("hooks, tokens, tenants", () => {
  test("a hook's token and address make an alert scale the service, and the decision is listed", async () => {
    await apply(manifest("seventh", "replicas: 1\nautoscale: { min: 1, max: 5 }"));
    const made = await berthJson<{ token: string; hook: { paths: { generic: string } } }>(
      "hook",
      "create",
      "seventh",
      "--match",
      "alertname=Busy",
      "--replicas",
      "3",
      "--stabilization",
      "0s",
    );
    const body = { key: "k", status: "firing", labels: { alertname: "Busy" } };
    const { token, hook } = made;
    expect((await api.request("POST", hook.paths.generic, { token, body })).status).toBe(200);
    await waitUntil("the alert is answered", async () => {
      const service = await berthJson<Service>("get", "service", "seventh");
      return service.desiredReplicas === 3 && service.settled;
    });
    const demands = await berth(["get", "demands", "seventh"]);
    expect(demands.stdout).toMatch(/seventh +alerts +firing +3 +3/);
    expect((await berth(["get", "decisions", "seventh"])).stdout).toMatch(/seventh +1 +3 +yes/);
    expect((await berth(["explain", "seventh"])).stdout).toContain("Active demands of alerts");
    const changed = await berthJson<{ rules: unknown }>(
      "hook",
      "set",
      "seventh",
      "alerts",
      "--step",
      "7",
    );
    expect(changed.rules).toEqual([{ match: {}, want: { step: 7 } }]);
    const held = await berthJson<{ id: string }[]>("get", "demands", "seventh");
    const released = await berthJson<{ state: string }>(
      "demand",
      "release",
      "seventh",
      held[0]?.id ?? "",
    );
    expect(released.state).toBe("released");
    expect((await berth(["demand", "release", "seventh", "none"])).exitCode).toBe(2);
    expect((await berth(["hook", "rm", "seventh", "alerts"])).exitCode).toBe(0);
    expect((await berth(["hook", "ls", "seventh"])).stderr).toBe("No hooks found.\n");
  });

  test("a token is shown once, works, and is rejected after its revocation", async () => {
    const made = await berth(["token", "create", "reader", "--role", "read"]);
    const token = made.stdout.trim();
    expect(made.stdout.split("\n")).toHaveLength(2);
    expect((await berth(["get", "hosts"], { settings: { token } })).exitCode).toBe(0);
    const refused = await berth(["scale", "first", "1"], { settings: { token } });
    expect(refused).toMatchObject({ exitCode: 1, stdout: "" });
    expect((await berth(["token", "revoke", "reader"])).exitCode).toBe(0);
    const after = await berth(["get", "hosts"], { settings: { token } });
    expect(after.exitCode).toBe(1);
    expect(after.stderr).toContain("BERTH_TOKEN");
    expect((await berth(["get", "tokens"])).stdout).toMatch(/reader +read +- +revoked/);
  });

  test("isolates tenants; an admin selects one with --tenant", async () => {
    expect((await berth(["tenant", "create", "food", "--sets-max", "5"])).stdout).toMatch(
      /food +5 /,
    );
    const file = path.join(folder, "food.yaml");
    await writeFile(file, manifest("menu", "replicas: 1"));
    expect((await berth(["apply", "-f", file, "--tenant", "food"])).exitCode).toBe(0);
    expect((await berth(["get", "service", "menu"])).exitCode).toBe(3);
    expect((await berth(["get", "service", "menu", "--tenant", "food"])).exitCode).toBe(0);
    const tooMany = await berth(["scale", "menu", "6", "--tenant", "food"]);
    expect(tooMany.exitCode).toBe(1);
    expect(tooMany.stderr).toContain("quota");
  });

  test("an enroll token is printed alone, for a shell's $( )", async () => {
    const { stdout, stderr } = await berth(["enroll-token", "rack1-host9"]);
    expect(stdout).toMatch(/^\S+\n$/);
    expect(stderr).toBe("");
  });
});

describe("events", () => {
  test("follows events, one JSON object per line, until it is interrupted", async () => {
    const interrupt = new AbortController();
    const seen: string[] = [];
    let isFollowing = false;
    const following = berth(["events", "-f", "-o", "json", "--service", "followed"], {
      signal: interrupt.signal,
      fetch: async (url, init) => {
        const response = await api.api.app.request(url, init);
        isFollowing = true;
        return response;
      },
      onStdout: (text) => {
        seen.push((JSON.parse(text) as { kind: string }).kind);
        if (seen.includes("set-running")) interrupt.abort();
      },
    });
    await waitUntil("the stream is open", () => isFollowing);
    await apply(manifest("followed", "replicas: 1"));
    let replicas = 1;
    // The stream may begin after the first set runs, so further sets run until one is seen.
    await waitUntil(
      "a running set is seen",
      async () => {
        if (interrupt.signal.aborted) return true;
        replicas += 1;
        await berth(["scale", "followed", String(replicas), "--wait"]);
        return interrupt.signal.aborted;
      },
      { everyMs: 1_000 },
    );
    expect((await following).exitCode).toBe(130);
    expect(seen).toContain("set-running");
  });

  test("lists the last events, oldest first", async () => {
    const run = await berth(["events", "--service", "first"]);
    const lines = run.stdout.trimEnd().split("\n");
    expect(lines[0]).toMatch(/service-created +service\/first +Service first created/);
    expect(lines.at(-1)).toMatch(/ set_\w{26} /);
    expect(lines.length).toBeGreaterThan(2);
  });
});
