import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { readdir, readFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { beforeAll, expect, it } from "vitest";
import { removeDeadTraces } from "../support/network/machine-traces.ts";

/** `scripts/demo --once`, as the first command that a user runs. */
const run = promisify(execFile);
const demo = fileURLToPath(new URL("../../scripts/demo", import.meta.url));

/** Calls `onLine` with each line. Returns all lines and the exit code. */
async function runDemo(
  onLine: (line: string, child: ChildProcess) => void = () => undefined,
): Promise<{ code: number | null; lines: string[] }> {
  const child = spawn("setpriv", ["--pdeathsig", "TERM", "--", demo, "--once"], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const lines: string[] = [];
  createInterface({ input: child.stdout }).on("line", (line) => {
    lines.push(line);
    onLine(line, child);
  });
  const [code] = (await once(child, "close")) as [number | null];
  return { code, lines };
}

/** Everything of a demo that could stay on the machine. */
async function listTraces(): Promise<string[]> {
  const filters = await Promise.all(
    ["iptables-save", "ip6tables-save"].map((name) => run(`/usr/sbin/${name}`)),
  );
  const chains = filters.flatMap(({ stdout }) => stdout.split("\n"));
  const interfaces = await readdir("/sys/class/net");
  const mounts = (await readFile("/proc/self/mounts", "utf8")).split("\n");
  const files = [...(await readdir("/run/docker/plugins")), ...(await readdir(tmpdir()))];
  const list = async (...args: string[]) => (await run("docker", args)).stdout.split("\n");
  const networks = await list("network", "ls", "--format", "{{.Driver}} {{.Name}}");
  const containers = await list("ps", "--all", "--format", '{{.Label "berth.service"}} {{.Names}}');
  return [
    ...chains.filter((line) => line.includes("berthdemo")),
    ...interfaces.filter((name) => /^(?:bd[hcu]-|berthdemo$)/.test(name)),
    ...mounts.filter((line) => line.includes("/berth-demo-")),
    ...[...files, ...networks].filter((name) => name.startsWith("berth-demo-")),
    ...containers.filter((line) => line.startsWith("demo-")),
  ];
}

/** Other demos of this machine may have left something before demos noted their traces. */
let before: string[];
async function listNewTraces(): Promise<string[]> {
  return (await listTraces()).filter((trace) => !before.includes(trace));
}

beforeAll(async () => {
  before = await listTraces();
  // Traces whose names differ between demos.
  expect(before.filter((trace) => !trace.includes("berth-demo-"))).toEqual([]);
});

it("the demo scales a service behind its address, and removes everything", async () => {
  const { code, lines } = await runDemo();
  const result = JSON.parse(lines.at(-1) ?? "") as Record<string, unknown>;
  expect(result["error"]).toBeUndefined();
  expect(result).toMatchObject({
    ok: true,
    scaledOutTo: 6,
    scaledInTo: 2,
    endpointsMax: 6,
    url: expect.stringMatching(/^http:\/\/[\d.]+:\d+\/$/),
  });
  expect(code).toBe(0);
  // The client is one of the six sets.
  expect(result["setsBehindAddress"]).toBeGreaterThan(1);
  expect(result["serviceRequests"]).toBeGreaterThan(20);
  expect(result["serviceRequestsFailed"]).toBe(0);
  const text = lines.join("\n");
  expect(text).toMatch(/\+\d+ ms {2}endpoints: 6 sets/);
  expect(text).toMatch(/answers "hello from [\w-]+": open it in a browser/);
  expect(await listNewTraces()).toEqual([]);
});

it("Ctrl-C while the network driver starts removes everything", async () => {
  const { code, lines } = await runDemo((line, child) => {
    if (!line.includes("Berth starts on this machine")) return;
    // The driver has added its bridge, and not yet all chains and its socket.
    const timer = setInterval(() => {
      if (!existsSync("/sys/class/net/berthdemo")) return;
      clearInterval(timer);
      child.kill("SIGINT");
    }, 1);
    child.once("exit", () => clearInterval(timer));
  });
  expect(JSON.parse(lines.at(-1) ?? "")).toMatchObject({ ok: false, error: "interrupted" });
  expect(code).toBe(1);
  expect(await listNewTraces()).toEqual([]);
});

it("the next run removes what a killed demo has left", async () => {
  await runDemo((line, child) => {
    if (line.includes("the first set: ")) child.kill("SIGKILL");
  });
  expect(await listNewTraces()).not.toEqual([]);
  const removeAndList = async () => {
    // Berth ends after the demo, and uses its folder meanwhile.
    await removeDeadTraces();
    return listNewTraces();
  };
  await expect.poll(removeAndList).toEqual([]);
});
