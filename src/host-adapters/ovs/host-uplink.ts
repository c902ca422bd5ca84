import { readFile, writeFile } from "node:fs/promises";
import { z } from "zod";
import { coalesce } from "../../lib/async/coalesce.ts";
import { SwitchError } from "../../network-driver/ports/switch-port.ts";
import type { HostPort, Uplink } from "../../network-driver/ports/uplink.ts";
import {
  ensureChain,
  interfacePattern,
  ip,
  iptables,
  readIpJson,
  runOnHost,
} from "./packet-filter.ts";
import { keyOfPort, type PortHolder } from "./port-holder.ts";
import { listUplinkChains, publishingChain } from "./uplink-chains.ts";

const forwardingFile = "/proc/sys/net/ipv4/ip_forward";
const connectionsFile = "/proc/sys/net/netfilter/nf_conntrack_max";
/** The kernel's default on a host of 4 GiB, if it has no such file. */
const connectionsDefault = 65_536;
/** A network may use a sixteenth of the host's tracked connections for external addresses. */
const connectionShares = 16;
/** New connections per second to a published port. A flood of them would occupy the switch. */
const openingsPerSecondDefault = 5_000;

const routeSchema = z.object({
  dst: z.string().optional(),
  /** Missing for `unreachable` and `blackhole`, and for several next hops. */
  dev: z.string().optional(),
  metric: z.number().default(0),
  nexthops: z.array(z.object({ dev: z.string().optional() })).default([]),
});
type Route = z.output<typeof routeSchema>;
const addressesSchema = z.array(
  z.object({ addr_info: z.array(z.object({ local: z.string(), prefixlen: z.number() })) }),
);

export interface HostUplinkOptions {
  /** Names the chains, so that each bridge has its own. At most 15 characters. */
  bridge: string;
  /** The first address of a subnet with 65,536 addresses. */
  firstAddress: string;
  /** The UDP port of the tunnel, which no set can publish. */
  tunnelUdpPort: number;
  portHolder: PortHolder;
  /** Packets leave on these interfaces. Undefined for those of the default route. */
  outboundInterfaces?: readonly string[] | undefined;
  /** Limits the connections per second that may open to one published port: 5,000 by default. */
  openingsPerSecondMax?: number | undefined;
}

/**
 * The uplink as a route and chains of iptables. The next hop of the route is the first address,
 * which belongs to no network because no conntrack zone is 0. Its MAC address is that of the
 * bridge's gateway.
 *
 * The table `mangle` drops packets that must not pass. It comes before `filter`, where Docker and
 * operators insert their rules in front of all others.
 */
export function createHostUplink({
  bridge,
  firstAddress,
  tunnelUdpPort,
  portHolder,
  outboundInterfaces,
  openingsPerSecondMax = openingsPerSecondDefault,
}: HostUplinkOptions): Uplink {
  const subnet = `${firstAddress}/16`;
  let outward = outboundInterfaces ?? [];
  let interfaceName: string | undefined;
  let published: readonly HostPort[] | undefined;
  let takenPorts: readonly HostPort[] = [];
  // One run at a time, which reads the newest list. Otherwise an old list could be committed last.
  const ensurePublished = coalesce(async (signal = new AbortController().signal) => {
    if (interfaceName === undefined || !published) return;
    const allowed = published.filter((one) => !isTunnel(one, tunnelUdpPort));
    const taken = await portHolder.hold(allowed);
    const own = allowed.filter((one) => !taken.has(keyOfPort(one)));
    await ensureChain(iptables, publishingChain(bridge, interfaceName, own), signal);
    takenPorts = allowed.filter((one) => taken.has(keyOfPort(one)));
  });
  return {
    firstAddress,
    async ensure({ interfaceName: name, gatewayMac, nameServerAddress }, signal) {
      interfaceName = name;
      await checkUnused(subnet, name, signal);
      const found = outboundInterfaces ?? (await listDefaultInterfaces(signal));
      if (found.length > 0) outward = found; // the default route may be missing for a moment
      const limit = await readConnectionLimit();
      const bounds = { limit, openingsPerSecondMax };
      const facts = { bridge, name, subnet, nameServerAddress, outward, ...bounds };
      for (const chain of listUplinkChains(facts)) await ensureChain(iptables, chain, signal);
      await ensurePublished(signal);
      await enableForwarding(signal);
      await runOnHost(ip, ["link", "set", name, "up"], signal);
      const hop = ["dev", name, "lladdr", gatewayMac, "nud", "permanent"];
      await runOnHost(ip, ["neighbor", "replace", firstAddress, ...hop], signal);
      const via = ["via", firstAddress, "dev", name, "onlink"];
      await runOnHost(ip, ["route", "replace", subnet, ...via], signal);
      const address = [`${nameServerAddress}/32`, "dev", name];
      await runOnHost(ip, ["address", "replace", ...address], signal);
      await removeOtherRoutes(subnet, name, signal);
      await removeOtherAddresses(nameServerAddress, name, signal);
    },
    async publish(ports, signal) {
      published = ports;
      await ensurePublished(signal);
    },
    get takenPorts() {
      return takenPorts;
    },
    async checkUnused(ports) {
      for (const one of ports) {
        const { protocol, hostPort } = one;
        if (isTunnel(one, tunnelUdpPort) || !(await portHolder.isUnused(one)))
          throw new SwitchError(
            `Host port ${hostPort}/${protocol}: address already in use by another program of the host.`,
          );
      }
    },
  };
}

function isTunnel({ protocol, hostPort }: Omit<HostPort, "address">, udpPort: number): boolean {
  return protocol === "udp" && hostPort === udpPort;
}

/** Rejects if the host has another route for these addresses, which would lose its traffic. */
async function checkUnused(subnet: string, own: string, signal: AbortSignal): Promise<void> {
  for (const selector of ["root", "match"]) {
    const routes = await readRoutes([selector, subnet], signal);
    const other = routes.find(({ dst, dev }) => !isDefault(dst) && dev !== own);
    if (other)
      throw new SwitchError(
        `The host has a route to ${other.dst ?? subnet} on ${other.dev ?? "no interface"}. Set BERTH_NETWORK_OUTBOUND_SUBNET to an unused /16.`,
      );
  }
}

/** VPNs replace the default route by two that each cover half of all addresses. */
function isDefault(dst: string | undefined): boolean {
  return dst === "default" || dst?.endsWith("/1") === true;
}

/** Removes the routes of earlier settings of the subnet. */
async function removeOtherRoutes(subnet: string, name: string, signal: AbortSignal): Promise<void> {
  for (const { dst } of await readRoutes(["dev", name], signal))
    if (dst !== undefined && dst !== subnet)
      await runOnHost(ip, ["route", "delete", dst, "dev", name], signal);
}

async function removeOtherAddresses(own: string, name: string, signal: AbortSignal): Promise<void> {
  const listed = await readIpJson(addressesSchema, ["-4", "address", "show", "dev", name], signal);
  for (const { local, prefixlen } of listed.flatMap(({ addr_info: addresses }) => addresses))
    if (local !== own)
      await runOnHost(ip, ["address", "delete", `${local}/${prefixlen}`, "dev", name], signal);
}

/**
 * Enables forwarding, unless the host already forwards packets. Like Docker, it first sets the
 * policy of FORWARD to DROP: otherwise the host would forward the packets of its neighbors. Docker
 * sets the policy only if it enables forwarding itself, and the driver starts before Docker.
 */
async function enableForwarding(signal: AbortSignal): Promise<void> {
  if ((await readFile(forwardingFile, "utf8")).trim() === "1") return;
  await runOnHost(iptables, ["-w", "4", "-P", "FORWARD", "DROP"], signal);
  await writeFile(forwardingFile, "1", { flag: "r+" });
}

async function readConnectionLimit(): Promise<number> {
  const text = await readFile(connectionsFile, "utf8").catch(() => String(connectionsDefault));
  return Math.max(1, Math.floor(Number(text) / connectionShares));
}

/** Lists the interfaces of the default route with the lowest metric, which may have several. */
async function listDefaultInterfaces(signal: AbortSignal): Promise<string[]> {
  const routes = await readRoutes(["default"], signal);
  const usable = routes
    .map(({ dev, nexthops, metric }) => ({
      metric,
      names: [dev, ...nexthops.map((hop) => hop.dev)].filter(
        (name) => name !== undefined && interfacePattern.test(name),
      ),
    }))
    .filter(({ names }) => names.length > 0);
  const lowest = Math.min(...usable.map(({ metric }) => metric));
  const names = usable.filter(({ metric }) => metric === lowest).flatMap((route) => route.names);
  return [...new Set(names)].filter((name) => name !== undefined);
}

function readRoutes(args: readonly string[], signal: AbortSignal): Promise<Route[]> {
  return readIpJson(z.array(routeSchema), ["-4", "route", "show", ...args], signal);
}
