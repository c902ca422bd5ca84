import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { readdir } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { expect, it } from "vitest";

/** `scripts/demo --once`, as the first command that a user runs. */
const run = promisify(execFile);
const demo = fileURLToPath(new URL("../../scripts/demo", import.meta.url));

async function runDemo(): Promise<{ code: number | null; lines: string[] }> {
  const child = spawn("setpriv", ["--pdeathsig", "TERM", "--", demo, "--once"], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  let output = "";
  child.stdout.on("data", (chunk: Buffer) => {
    output += chunk.toString();
  });
  const [code] = (await once(child, "close")) as [number | null];
  return { code, lines: output.trimEnd().split("\n") };
}

/** Everything of a network driver that could stay on the machine. */
async function listTraces(): Promise<string[]> {
  const filters = await Promise.all(
    ["iptables-save", "ip6tables-save"].map((name) => run(`/usr/sbin/${name}`)),
  );
  const chains = filters.flatMap(({ stdout }) => stdout.split("\n"));
  const names = [...(await readdir("/sys/class/net")), ...(await readdir("/run/docker/plugins"))];
  const { stdout } = await run("docker", ["network", "ls", "--format", "{{.Driver}} {{.Name}}"]);
  return [
    ...chains.filter((line) => line.includes("berthdemo")),
    ...names.filter((name) => /^(?:bd[hcu]-|berthdemo$|berth-demo-)/.test(name)),
    ...stdout.split("\n").filter((line) => line.startsWith("berth-demo-")),
  ];
}

it("the demo scales a service behind its address, and removes everything", async () => {
  const { code, lines } = await runDemo();
  const result = JSON.parse(lines.at(-1) ?? "") as Record<string, unknown>;
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
  expect(await listTraces()).toEqual([]);
});
