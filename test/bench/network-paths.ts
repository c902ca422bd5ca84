import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { addNamespace } from "../support/network/machine-traces.ts";
import {
  applyNetwork,
  linkNamespaces,
  type NetworkHosts,
  type RunningSet,
  runSet,
} from "./network-hosts.ts";
import {
  measurePaths,
  type Path,
  type PathEnd,
  type PathFigures,
  serveLoad,
} from "./network-load.ts";

/**
 * Throughput of one TCP connection, and the time for one byte there and back, between two sets.
 *
 * On one host the peer is a pair of sets on Docker's bridge. On two hosts it is a VXLAN interface
 * of the kernel with a bridge on each host. Docker's overlay networks have the same data path.
 *
 * Two more pairs explain the ratio on one host. One is on a bridge of the same Open vSwitch that
 * forwards like a learning switch: the rest is the cost of Berth's flows. The other is on a bridge
 * of the kernel, without the offloads that the netdev datapath cannot use.
 */

const run = promisify(execFile);
const rounding = 1_000;

export interface Ratios {
  /** Berth's throughput over that of the peer: higher is better. */
  throughputRatio: number;
  /** Berth's latency over that of the peer: lower is better. */
  latencyRatio: number;
  berth: PathFigures;
  peer: PathFigures;
}

export interface PathOptions {
  rounds: number;
  seconds: number;
}

export async function measureOneHost(hosts: NetworkHosts, options: PathOptions) {
  const { first } = hosts;
  const inNetwork = [
    await runSet(first, { isInNetwork: true }),
    await runSet(first, { isInNetwork: true }),
  ];
  await applyNetwork(hosts, inNetwork);
  const onBridge = [
    await runSet(first, { isInNetwork: false }),
    await runSet(first, { isInNetwork: false }),
  ];
  const { runFolder } = first.driverHost.ovs;
  const addToSwitch = (hostEnd: string) =>
    first.driverHost.ovs.ovs(
      "ovs-vsctl",
      `--db=unix:${runFolder}/db.sock`,
      "add-port",
      "plain",
      hostEnd,
    );
  await first.driverHost.ovs.ovs(
    "ovs-vsctl",
    `--db=unix:${runFolder}/db.sock`,
    "add-br",
    "plain",
    "--",
    "set",
    "Bridge",
    "plain",
    "datapath_type=netdev",
  );
  const plain = await addNamespacePair(first.namespace, "plain", addToSwitch);
  await inNamespace(first.namespace, "ip", "link", "add", "slow", "type", "bridge");
  await inNamespace(first.namespace, "ip", "link", "set", "slow", "up");
  const slow = await addNamespacePair(first.namespace, "slow", (hostEnd) =>
    inNamespace(first.namespace, "ip", "link", "set", hostEnd, "master", "slow", "mtu", "1450"),
  );
  const pairs = [toPath(inNetwork), toPath(onBridge), plain.path, slow.path];
  const [berth, peer, plainSwitch, withoutOffload] = await measureServed(pairs, options);
  await plain.close();
  await slow.close();
  const ratios = toRatios(berth, peer);
  const result = { ...ratios, plainSwitch, bridgeWithoutOffload: withoutOffload };
  describe("one host", "Docker's bridge", ratios);
  describePair("a plain bridge of this Open vSwitch", plainSwitch);
  describePair("a bridge of the kernel without offloads", withoutOffload);
  return result;
}

export async function measureTwoHosts(hosts: NetworkHosts, options: PathOptions) {
  const sets = [
    await runSet(hosts.first, { isInNetwork: true }),
    await runSet(hosts.second, { isInNetwork: true }),
  ];
  await applyNetwork(hosts, sets);
  const peer = await addKernelVxlan([hosts.first.namespace, hosts.second.namespace]);
  const [ours, theirs] = await measureServed([toPath(sets), peer.path], options);
  await peer.close();
  const ratios = toRatios(ours, theirs);
  describe("two hosts", "VXLAN of the kernel", ratios);
  return ratios;
}

/** Measures paths whose servers run meanwhile. */
async function measureServed(paths: readonly Path[], options: PathOptions): Promise<PathFigures[]> {
  const ends = await Promise.all(paths.map(({ to }) => serveLoad(to)));
  try {
    return await measurePaths(paths, options);
  } finally {
    for (const end of ends) end();
  }
}

function toPath([from, to]: readonly RunningSet[]): Path {
  if (!from || !to) throw new Error("a path has two ends");
  return { from, to };
}

function toRatios(berth: PathFigures | undefined, peer: PathFigures | undefined): Ratios {
  if (!berth || !peer) throw new Error("each path has figures");
  const ratio = (one: number, other: number) => Math.round((one / other) * rounding) / rounding;
  return {
    throughputRatio: ratio(berth.megabytesPerSecond, peer.megabytesPerSecond),
    latencyRatio: ratio(berth.latencyUs, peer.latencyUs),
    berth,
    peer,
  };
}

function describe(where: string, peerName: string, { berth, peer, ...ratios }: Ratios): void {
  process.stdout.write(
    `${where}: ${berth.megabytesPerSecond} MB/s and ${berth.latencyUs} µs, ${peerName} ${peer.megabytesPerSecond} MB/s and ${peer.latencyUs} µs, ratios ${ratios.throughputRatio} and ${ratios.latencyRatio}\n`,
  );
}

function describePair(name: string, figures: PathFigures | undefined): void {
  process.stdout.write(
    `  ${name}: ${figures?.megabytesPerSecond} MB/s, ${figures?.latencyUs} µs\n`,
  );
}

interface Pair {
  path: Path;
  close(): Promise<void>;
}

/** Two namespaces with a link each. `attach` gets the end of each link in the host's namespace. */
async function addNamespacePair(
  host: string,
  name: string,
  attach: (hostEnd: string) => Promise<unknown>,
): Promise<Pair> {
  const ends: PathEnd[] = [];
  const names = ["a", "b"].map((letter) => `${host}-${name}-${letter}`);
  for (const [place, namespace] of names.entries()) {
    const hostEnd = `${name}${place}`;
    const address = `10.99.0.${place + 1}`;
    ends.push(await addEnd({ host, namespace, hostEnd, address, hasOffload: false }));
    await attach(hostEnd);
  }
  return toPair(ends, names);
}

/** A bridge with a VXLAN interface on each host, over a link of their own. */
async function addKernelVxlan(hosts: readonly string[]): Promise<Pair> {
  await linkNamespaces(hosts, "underlay");
  const ends: PathEnd[] = [];
  const names = hosts.map((host) => `${host}-overlay`);
  for (const [place, host] of hosts.entries()) {
    const [local, remote] = [`172.30.0.${place + 1}`, `172.30.0.${2 - place}`];
    const vxlan = ["id", "42", "dstport", "8472", "local", local, "remote", remote];
    const commands = [
      ["addr", "add", `${local}/24`, "dev", "underlay"],
      ["link", "set", "underlay", "up"],
      ["link", "add", "overlay", "type", "bridge"],
      ["link", "add", "vx", "type", "vxlan", ...vxlan],
      ["link", "set", "vx", "master", "overlay", "up"],
      ["link", "set", "overlay", "up"],
    ];
    for (const command of commands) await inNamespace(host, "ip", ...command);
    const [address, namespace] = [`10.98.0.${place + 1}`, names[place] ?? ""];
    ends.push(await addEnd({ host, namespace, hostEnd: "ov0", address, hasOffload: true }));
    await inNamespace(host, "ip", "link", "set", "ov0", "master", "overlay", "mtu", "1450");
  }
  return toPair(ends, names);
}

async function addEnd(end: {
  host: string;
  namespace: string;
  hostEnd: string;
  address: string;
  hasOffload: boolean;
}): Promise<PathEnd> {
  const { host, namespace, hostEnd, address } = end;
  await addNamespace(namespace);
  const peer = ["peer", "name", "eth0", "netns", namespace];
  await inNamespace(host, "ip", "link", "add", hostEnd, "type", "veth", ...peer);
  await inNamespace(host, "ip", "link", "set", hostEnd, "up");
  await inNamespace(namespace, "ip", "addr", "add", `${address}/24`, "dev", "eth0");
  await inNamespace(namespace, "ip", "link", "set", "eth0", "mtu", "1450", "up");
  if (!end.hasOffload) {
    // The network driver does the same. It also turns off the segmentation offload.
    await inNamespace(namespace, "ethtool", "-K", "eth0", "tx", "off");
  }
  return { enter: [`--net=/run/netns/${namespace}`], address };
}

function toPair([from, to]: readonly PathEnd[], namespaces: readonly string[]): Pair {
  if (!from || !to) throw new Error("a pair has two ends");
  return {
    path: { from, to },
    close: async () => {
      for (const namespace of namespaces) await run("ip", ["netns", "delete", namespace]);
    },
  };
}

async function inNamespace(namespace: string, ...command: string[]): Promise<void> {
  await run("ip", ["netns", "exec", namespace, ...command]);
}
