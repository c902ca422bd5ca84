import { execFile, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { readdir, writeFile } from "node:fs/promises";
import { promisify } from "node:util";
import { afterAll, expect, it } from "vitest";
import { findFilteredBridges, removeFilterChains } from "../support/network/filter-chains.ts";
import { addNamespace, noteTraces, removeDeadTraces } from "../support/network/machine-traces.ts";

const run = promisify(execFile);
const suffix = randomBytes(3).toString("hex");
const bridgeOf = (owner: string) => `b${owner}${suffix}`;
const namespaceOf = (owner: string) => `berth-${owner}-${suffix}`;
/** Only a driver has interfaces such as `zzh-a`, and no driver of a test has this prefix. */
const linkPrefix = "zz";
const modules = new URL("../support/network/machine-traces.ts", import.meta.url).href;

/** Creates the traces of a driver, by programs of the machine. */
async function addTraces(owner: string): Promise<void> {
  const bridge = bridgeOf(owner);
  await run("ip", ["link", "add", bridge, "type", "bridge"]);
  const chain = `BERTH-IN-${bridge}`;
  const change = (...args: string[]) => run("iptables", ["-w", "10", "-t", "raw", ...args]);
  await change("-N", chain);
  await change("-A", chain, "-j", "DROP");
  await change("-A", "PREROUTING", "-p", "udp", "--dport", "1", "-s", "192.0.2.1", "-j", chain);
}

async function listTraces(owner: string): Promise<string[]> {
  const links = (await readdir("/sys/class/net")).filter(
    (name) => name === bridgeOf(owner) || name.startsWith(`${linkPrefix}h-`),
  );
  const namespaces = (await readdir("/run/netns")).filter((name) => name === namespaceOf(owner));
  const filtered = await findFilteredBridges([bridgeOf(owner)]);
  return [...links, ...namespaces, ...filtered.map((bridge) => `chains of ${bridge}`)];
}

afterAll(async () => {
  for (const owner of ["dead", "live", "earlier"]) {
    await removeFilterChains(bridgeOf(owner));
    await run("ip", ["link", "delete", bridgeOf(owner)]).catch(() => undefined);
    await run("ip", ["netns", "delete", namespaceOf(owner)]).catch(() => undefined);
  }
});

it("the next run removes what a killed one has left, and nothing of a live one", async () => {
  const noted = JSON.stringify([
    { bridge: bridgeOf("dead") },
    // Demos use the same names.
    { bridge: bridgeOf("live") },
    { linkPrefix },
  ]);
  const script = `const { addNamespace, noteTraces } = await import("${modules}");
    noteTraces(...${noted});
    await addNamespace("${namespaceOf("dead")}");
    console.log("ready");
    setInterval(() => undefined, 1_000);`;
  const args = ["--import", "tsx", "--input-type=module", "-e", script];
  const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
  await once(child.stdout, "data");
  await addTraces("dead");
  const peer = ["type", "veth", "peer", "name", "eth0", "netns", namespaceOf("dead")];
  await run("ip", ["link", "add", `${linkPrefix}h-${suffix}`, ...peer]);
  noteTraces({ bridge: bridgeOf("live") });
  await addNamespace(namespaceOf("live"));
  await addTraces("live");
  // An earlier process had the same id.
  await run("ip", ["netns", "add", namespaceOf("earlier")]);
  const line = JSON.stringify({ namespace: namespaceOf("earlier") });
  await writeFile(`/run/berth-traces/${process.pid}-1`, `${line}\n`);

  await removeDeadTraces();
  expect(await listTraces("dead")).toHaveLength(4);
  expect(await listTraces("earlier")).toEqual([`${linkPrefix}h-${suffix}`]);
  child.kill("SIGKILL");
  await once(child, "exit");
  await removeDeadTraces();
  expect(await listTraces("dead")).toEqual([]);
  expect(await listTraces("live")).toHaveLength(3);
  await removeDeadTraces();
});
