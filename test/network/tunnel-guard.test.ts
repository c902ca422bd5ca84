import { execFile, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, it } from "vitest";
import { setCommandRunner } from "../../src/host-adapters/exec.ts";
import { createTunnelGuard } from "../../src/host-adapters/ovs/tunnel-guard.ts";
import { addNamespace } from "../support/network/machine-traces.ts";
import { createNamespaceRunner } from "../support/network/namespace-runner.ts";
import { waitUntil } from "../support/wait-until.ts";

const run = promisify(execFile);
const { signal } = new AbortController();
const suffix = randomBytes(3).toString("hex");
const [host, set, peer] = ["host", "set", "peer"].map((name) => `berth-${name}-${suffix}`) as [
  string,
  string,
  string,
];
const udpPort = 4789;
/** Prints each packet. After SIGTERM it ends once no packet is left. */
const receive = `import signal, socket
stops = []
signal.signal(signal.SIGTERM, lambda *_: stops.append(True))
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("0.0.0.0", ${udpPort})); s.settimeout(0.2); print("ready", flush=True)
while True:
  try: print(s.recv(100).decode(), flush=True)
  except TimeoutError:
    if stops: break`;
const send = `import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.sendto(sys.argv[2].encode(), (sys.argv[1], ${udpPort}))`;
const inside = (namespace: string, ...command: string[]) =>
  run("ip", ["netns", "exec", namespace, ...command]);

/** A host between a container on Docker's bridge and another host. */
beforeAll(async () => {
  for (const namespace of [host, set, peer]) await addNamespace(namespace);
  for (const [namespace, name, subnet] of [
    [set, "bridge", "10.9.1"],
    [peer, "underlay", "10.9.2"],
  ] as const) {
    const other = ["peer", "name", "eth0", "netns", namespace];
    await inside(host, "ip", "link", "add", name, "type", "veth", ...other);
    await inside(host, "ip", "address", "add", `${subnet}.1/24`, "dev", name);
    await inside(host, "ip", "link", "set", name, "up");
    await inside(namespace, "ip", "address", "add", `${subnet}.2/24`, "dev", "eth0");
    await inside(namespace, "ip", "link", "set", "eth0", "up");
    await inside(namespace, "ip", "route", "add", "default", "via", `${subnet}.1`);
  }
  await inside(host, "sysctl", "-qw", "net.ipv4.ip_forward=1");
  setCommandRunner(createNamespaceRunner(host));
});
afterAll(async () => {
  setCommandRunner(undefined);
  for (const namespace of [host, set, peer]) await run("ip", ["netns", "delete", namespace]);
});

/** Which packets for the tunnel arrive. */
async function listArrived(): Promise<string[]> {
  const receivers = await Promise.all([host, peer].map(startReceiver));
  await inside(set, "python3", "-c", send, "10.9.2.1", "set to its host");
  await inside(set, "python3", "-c", send, "10.9.2.2", "set to another host");
  await inside(peer, "python3", "-c", send, "10.9.2.1", "host to host");
  const arrived = await Promise.all(receivers.map((stop) => stop()));
  return arrived.flat().sort();
}

/** Returns a function that ends the receiver and lists what it has received. */
async function startReceiver(namespace: string): Promise<() => Promise<string[]>> {
  const inNamespace = ["--pdeathsig", "KILL", "--", "ip", "netns", "exec", namespace];
  const child = spawn("setpriv", [...inNamespace, "python3", "-c", receive]);
  const lines: string[] = [];
  const ended = once(
    createInterface(child.stdout).on("line", (line) => lines.push(line)),
    "close",
  );
  await waitUntil("the receiver is ready", async () => lines.includes("ready"));
  return async () => {
    child.kill("SIGTERM");
    await ended;
    return lines.filter((line) => line !== "ready");
  };
}

it("containers send no packet to the tunnel of any host, and hosts do", async () => {
  expect(await listArrived()).toEqual(["host to host", "set to another host", "set to its host"]);
  const guard = createTunnelGuard({ bridge: "berth0", udpPort, mtu: 1_450 });
  await guard.ensure(null, signal);
  expect(await listArrived()).toEqual([]);
  await guard.ensure("10.9.2.1", signal);
  await guard.ensure("10.9.2.1", signal);
  expect(await listArrived()).toEqual(["host to host"]);
  const { stdout } = await inside(host, "iptables", "-t", "raw", "-S");
  expect(stdout.match(/-j BERTH-berth0/g)).toHaveLength(1);
  await expect(guard.ensure("10.9.3.1", signal)).rejects.toThrow("No interface of this host");
});

it("refuses an MTU of sets for which the interface of the tunnel is too small, and still guards", async () => {
  const ensure = (mtu: number, address: string) =>
    createTunnelGuard({ bridge: "berth0", udpPort, mtu }).ensure(address, signal);
  await inside(host, "ip", "address", "add", "fd00:9::1/64", "dev", "underlay", "nodad");
  await ensure(1_450, "10.9.2.1");
  await ensure(1_430, "fd00:9::1");
  await inside(host, "iptables", "-t", "raw", "-F");
  await expect(ensure(1_431, "fd00:9::1")).rejects.toThrow(
    "The interface underlay of the tunnel has the MTU 1500, but packets of sets need 1501. Set BERTH_NETWORK_MTU to at most 1430 on all hosts.",
  );
  await inside(host, "ip", "link", "set", "underlay", "mtu", "1460");
  await expect(ensure(1_450, "10.9.2.1")).rejects.toThrow("BERTH_NETWORK_MTU to at most 1410");
  const { stdout } = await inside(host, "iptables", "-t", "raw", "-S", "BERTH-berth0");
  expect(stdout).toContain("-i underlay -j RETURN");
  await inside(host, "ip", "link", "set", "underlay", "mtu", "1500");
});
