import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import Docker from "dockerode";
import { afterAll, beforeAll, expect, it } from "vitest";
import type { BerthEvent } from "../../src/contracts/api/events.ts";
import type { Session } from "../../src/contracts/api/sessions.ts";
import type { BerthSet } from "../../src/contracts/api/sets.ts";
import { type CliProcess, startCli } from "../support/cli/cli-process.ts";
import { baseImage, ensureBaseImage } from "../support/docker/docker.ts";
import { removeHost } from "../support/docker/docker-host.ts";
import { requestJson } from "../support/servers/berth-process.ts";
import { startMain } from "../support/servers/main-process.ts";
import { createTestDatabase, createTestRedis } from "../support/servers/test-services.ts";
import { waitUntil } from "../support/wait-until.ts";

const docker = new Docker();
const adminToken = "brt_an-admin-of-the-session-tests";
const deadlineMs = 120_000;
const closing: (() => Promise<unknown>)[] = [];
let apiUrl: string;
let set: BerthSet;

/** The API of the command line, and another one that the agent uses. */
beforeAll(async () => {
  await ensureBaseImage(docker);
  const folder = await mkdtemp(path.join(tmpdir(), "berth-sessions-"));
  closing.push(() => rm(folder, { recursive: true, force: true }));
  const [database, redis] = await Promise.all([createTestDatabase(), createTestRedis()]);
  closing.push(() => Promise.all([database.drop(), redis.release()]));
  const env = {
    DATABASE_URL: database.url,
    REDIS_URL: redis.url,
    BERTH_REDIS_PREFIX: redis.prefix,
    BERTH_PORT: "0",
    BERTH_ADMIN_TOKEN: adminToken,
  };
  const { BERTH_PORT: _port, BERTH_ADMIN_TOKEN: _token, ...jobEnv } = env;
  const [one, other, jobs] = await Promise.all([
    startMain("api", env),
    startMain("api", env),
    startMain("job-worker", jobEnv),
  ]);
  for (const main of [one, other, jobs]) closing.push(() => main.end("SIGTERM"));
  apiUrl = String(one.ready["apiUrl"]);
  const { secret } = await request<{ secret: string }>("POST", "/v1/tokens", {
    name: "host",
    role: "enroll",
  });
  await request("PUT", "/v1/host-pools/default", {
    // Other load on this machine must not reject the sets.
    highWaterPercent: { cpuMillis: 1000, memoryBytes: 1000, volumeBytes: 1000, rootfsBytes: 100 },
  });
  const agent = await startMain("host-agent", {
    BERTH_API_URL: String(other.ready["apiUrl"]),
    BERTH_ENROLL_TOKEN: secret,
    BERTH_AGENT_DATA_DIR: path.join(folder, "agent"),
  });
  closing.push(async () => {
    await agent.end("SIGTERM");
    await removeHost(docker, String(agent.ready["hostId"]));
  });
  await request("POST", "/v1/services", {
    name: "web",
    replicas: 1,
    template: {
      cpu: 0.1,
      memory: "64Mi",
      rootfs: "16Mi",
      containers: [
        {
          index: 0,
          name: "app",
          image: baseImage,
          options: {
            cpu: 100,
            memory: 100,
            command: ["/bin/busybox", "sh", "-c", "while true; do echo tick; sleep 0.2; done"],
            stopTimeoutSeconds: 0,
          },
        },
      ],
    },
  });
  await waitUntil("the set runs", async () => (await findSet())?.ready === true, { deadlineMs });
  set = (await findSet()) as BerthSet;
});
afterAll(async () => {
  for (const close of closing.toReversed()) await close();
});

async function findSet(): Promise<BerthSet | undefined> {
  return (await request<{ items: BerthSet[] }>("GET", "/v1/sets")).items[0];
}

function request<T>(method: string, route: string, body?: unknown): Promise<T> {
  return requestJson(apiUrl + route, method, adminToken, { body, generation: undefined });
}

function berth(args: readonly string[], options?: { hasTerminal?: boolean }): CliProcess {
  const cli = startCli(args, { BERTH_API_URL: apiUrl, BERTH_TOKEN: adminToken }, options);
  closing.push(async () => void cli.child.kill("SIGKILL"));
  return cli;
}

const sh = (script: string, ...flags: string[]) => [
  "exec",
  set.id,
  "-c",
  "app",
  ...flags,
  "--",
  "/bin/busybox",
  "sh",
  "-c",
  script,
];

it("exec ends with the exit code of the program, and separates its streams", async () => {
  const cli = berth(sh("echo out; echo err >&2; exit 3"));
  expect(await cli.ended).toBe(3);
  expect([cli.output(), cli.errorOutput()]).toEqual(["out\n", "err\n"]);
});

it("input reaches the program until its end, byte for byte, in both directions", async () => {
  const cli = berth(sh("cat", "-i"));
  const sent = Array.from({ length: 3 * 2 ** 20 }, (_, at) =>
    String.fromCharCode((at * 7) % 128),
  ).join("");
  cli.type(sent);
  cli.endInput();
  expect(await cli.ended).toBe(0);
  expect(cli.output() === sent).toBe(true);
});

it("a program that a signal ends has 128 and its number, and an unknown program has 127", async () => {
  expect(await berth(sh("kill -TERM $$")).ended).toBe(143);
  const unknown = berth(["exec", set.id, "-c", "app", "--", "/bin/no-such-program"]);
  expect([126, 127]).toContain(await unknown.ended);
});

// Docker sets the size a moment after the start of the program. Until then, stty fails with code 0.
const untilTerminalHasSize =
  'until size=$(stty size 2>/dev/null) && [ "${size:-0 0}" != "0 0" ]; do sleep 0.1; done; echo "$size"';

it("a terminal has its size, passes Ctrl-C on, and gives the exit code", async () => {
  const script = `${untilTerminalHasSize}; trap 'echo caught; exit 5' INT; echo waiting; while true; do sleep 1; done`;
  const cli = berth(sh(script, "-i", "-t"), { hasTerminal: true });
  await waitUntil("the program waits", () => cli.output().includes("waiting"), { deadlineMs });
  expect(cli.output()).toContain("33 91");
  cli.type("\u0003");
  expect(await cli.ended).toBe(5);
  expect(cli.output()).toContain("caught");
});

it("the processes of a caller who disconnects end", async () => {
  const cli = berth(sh("trap '' HUP; echo begun; sleep 98765"));
  await waitUntil("the program runs", () => cli.output().includes("begun"), { deadlineMs });
  expect(await listProcesses()).toContain("98765");
  cli.child.kill("SIGKILL");
  await waitUntil("it has ended", async () => !(await listProcesses()).includes("98765"), {
    deadlineMs,
  });
});

it("attach follows the main process, and leaves it alone", async () => {
  const cli = berth(["attach", set.id, "-c", "app"]);
  await waitUntil("output arrives", () => cli.output().includes("tick\ntick\n"), { deadlineMs });
  cli.child.kill("SIGINT");
  expect(await cli.ended).toBe(130);
  expect((await findSet())?.ready).toBe(true);
});

it("a caller that never reads stops the program, until the caller reads", async () => {
  const cli = berth(sh("dd if=/dev/zero bs=65536 count=1024 2>/dev/null; echo end >&2"));
  cli.child.stdout?.pause();
  await waitUntil("bytes have passed", async () => (await openSessions()).length === 1, {
    deadlineMs,
  });
  await new Promise((resolve) => setTimeout(resolve, 3_000));
  expect(cli.errorOutput()).toBe("");
  cli.child.stdout?.resume();
  expect(await cli.ended).toBe(0);
  expect(cli.output()).toHaveLength(2 ** 26);
});

it("infra is refused (I10), and each session has events (I24)", async () => {
  const refused = berth(["exec", set.id, "-c", "infra", "--", "sh"]);
  expect(await refused.ended).not.toBe(0);
  await expect(
    requestJson(`${apiUrl}/v1/sets/${set.id}/containers/infra/exec`, "GET", adminToken, {
      body: undefined,
      generation: undefined,
    }),
  ).rejects.toThrow("WebSocket");
  await waitUntil("all sessions have ended", async () => (await openSessions()).length === 0, {
    deadlineMs,
  });
  const { items } = await request<{ items: BerthEvent[] }>(
    "GET",
    `/v1/events?set=${set.id}&limit=200`,
  );
  const texts = items.map(({ text }) => text);
  expect(texts).toContainEqual(
    expect.stringMatching(/^Session exec \/bin\/busybox in container app by .+\.$/),
  );
  expect(texts).toContainEqual(expect.stringMatching(/ended after \d+ s with code 3\.$/));
  const { items: sessions } = await request<{ items: Session[] }>("GET", "/v1/sessions");
  const first = sessions.find(({ exitCode }) => exitCode === 3);
  expect(first).toMatchObject({ state: "ended", container: "app", bytesOut: 8, bytesIn: 0 });
});

async function openSessions(): Promise<Session[]> {
  return (await request<{ items: Session[] }>("GET", "/v1/sessions?open=true")).items;
}

async function listProcesses(): Promise<string> {
  const container = docker.getContainer(`berth-${set.id}-app`);
  const { Processes } = await container.top();
  return JSON.stringify(Processes);
}
