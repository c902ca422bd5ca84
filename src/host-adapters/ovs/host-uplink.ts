import { readFile, writeFile } from "node:fs/promises";
import { z } from "zod";
import { SwitchError } from "../../network-driver/ports/switch-port.ts";
import type { Uplink } from "../../network-driver/ports/uplink.ts";
import { ensureChain, iptables, runForFilter } from "./packet-filter.ts";

const ip = "/sbin/ip";
const forwardingFile = "/proc/sys/net/ipv4/ip_forward";
const defaultRoutesMax = 8;

const routesSchema = z.array(z.object({ dst: z.string().optional(), dev: z.string() }));
const interfacePattern = /^[\w.@:-]{1,15}$/;

export interface HostUplinkOptions {
  /** Names the chains, so that each bridge has its own. At most 15 characters. */
  bridge: string;
  /** The first address of a subnet with 65,536 addresses. */
  firstAddress: string;
}

/**
 * The uplink as a route, and rules of iptables in chains of their own. The next hop of the route is
 * the first address, which no network has, with the MAC address of the bridge's gateway.
 */
export function createHostUplink({ bridge, firstAddress }: HostUplinkOptions): Uplink {
  const subnet = `${firstAddress}/16`;
  return {
    firstAddress,
    async ensure({ interfaceName: name, gatewayMac }, signal) {
      await runForFilter(ip, ["link", "set", name, "up"], signal);
      await checkUnused(subnet, name, signal);
      const hop = ["dev", name, "lladdr", gatewayMac, "nud", "permanent"];
      await runForFilter(ip, ["neighbor", "replace", firstAddress, ...hop], signal);
      const via = ["via", firstAddress, "dev", name, "onlink"];
      await runForFilter(ip, ["route", "replace", subnet, ...via], signal);
      await enableForwarding();
      const outside = await listDefaultInterfaces(signal);
      const chains = [
        {
          table: "filter",
          name: `BERTH-IN-${bridge}`,
          rules: ["-j DROP"],
          jumps: [["INPUT", "-i", name]],
        },
        {
          table: "filter",
          name: `BERTH-FWD-${bridge}`,
          rules: [
            ...outside.map((other) => `-i ${name} -o ${other} -j ACCEPT`),
            `-o ${name} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT`,
            "-j DROP",
          ],
          jumps: [
            ["FORWARD", "-i", name],
            ["FORWARD", "-o", name],
          ],
        },
        {
          table: "nat",
          name: `BERTH-NAT-${bridge}`,
          rules: ["-j MASQUERADE"],
          jumps: [["POSTROUTING", "-s", subnet]],
        },
      ] as const;
      for (const chain of chains) await ensureChain(iptables, chain, signal);
    },
  };
}

/** Another route to these addresses, such as one of a VPN, would lose its traffic. */
async function checkUnused(subnet: string, own: string, signal: AbortSignal): Promise<void> {
  const args = ["-json", "route", "show", "root", subnet];
  const routes = readRoutes(await runForFilter(ip, args, signal));
  const other = routes.find(({ dev }) => dev !== own);
  if (other)
    throw new SwitchError(
      `The host has a route to ${other.dst ?? subnet} on ${other.dev}. Set BERTH_NETWORK_OUTBOUND_SUBNET to an unused /16.`,
    );
}

async function enableForwarding(): Promise<void> {
  const value = (await readFile(forwardingFile, "utf8")).trim();
  if (value !== "1") await writeFile(forwardingFile, "1", { flag: "r+" });
}

async function listDefaultInterfaces(signal: AbortSignal): Promise<string[]> {
  const text = await runForFilter(ip, ["-json", "-4", "route", "show", "default"], signal);
  const names = new Set(readRoutes(text).map(({ dev }) => dev));
  return [...names].filter((name) => interfacePattern.test(name)).slice(0, defaultRoutesMax);
}

function readRoutes(text: string): z.output<typeof routesSchema> {
  return routesSchema.parse(text.trim() === "" ? [] : JSON.parse(text));
}
