import { z } from "zod";
import { SwitchError } from "../../network-driver/ports/switch-port.ts";
import type { TunnelGuard } from "../../network-driver/ports/tunnel-guard.ts";
import { ensureChain, interfacePattern, ip6tables, iptables, readIpJson } from "./packet-filter.ts";

const addressesSchema = z.array(z.object({ ifname: z.string().optional() }));

export interface TunnelGuardOptions {
  /** Names the chain, so that each bridge has its own. At most 15 characters. */
  bridge: string;
  udpPort: number;
}

/**
 * The guard as a chain of iptables and one of ip6tables, in the table `raw`. This table precedes
 * routing and address translation, so it gets the packets to this host and those that it forwards.
 * Packets that the host itself sends do not pass it.
 */
export function createTunnelGuard({ bridge, udpPort }: TunnelGuardOptions): TunnelGuard {
  return {
    async ensure(tunnelAddress, signal) {
      const trusted =
        tunnelAddress === null ? undefined : await findInterface(tunnelAddress, signal);
      const accept = trusted === undefined ? [] : [`-i ${trusted} -j RETURN`];
      for (const program of [iptables, ip6tables] as const)
        await ensureChain(
          program,
          {
            table: "raw",
            name: `BERTH-${bridge}`,
            rules: [...accept, "-j DROP"],
            jumps: [["PREROUTING", "-p", "udp", "--dport", String(udpPort)]],
          },
          signal,
        );
    },
  };
}

async function findInterface(address: string, signal: AbortSignal): Promise<string> {
  const listed = await readIpJson(addressesSchema, ["address", "show", "to", address], signal);
  const found = listed.find(({ ifname }) => ifname !== undefined)?.ifname;
  if (found !== undefined && interfacePattern.test(found)) return found;
  throw new SwitchError(`No interface of this host has the tunnel's address ${address}.`);
}
