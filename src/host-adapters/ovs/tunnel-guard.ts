import { z } from "zod";
import { SwitchError } from "../../network-driver/ports/switch-port.ts";
import type { TunnelGuard } from "../../network-driver/ports/tunnel-guard.ts";
import { ensureChain, interfacePattern, ip6tables, iptables, readIpJson } from "./packet-filter.ts";

const addressesSchema = z.array(
  z.object({ ifname: z.string().optional(), mtu: z.number().optional() }),
);
/** The headers of Ethernet, IP, UDP and VXLAN around a packet of a set. */
const overheads = { ipv4: 50, ipv6: 70 };

export interface TunnelGuardOptions {
  /** Names the chain, so that each bridge has its own. At most 15 characters. */
  bridge: string;
  udpPort: number;
  /** The MTU of sets. */
  mtu: number;
}

/**
 * The guard as a chain of iptables and one of ip6tables, in the table `raw`. This table precedes
 * routing and address translation, so it gets the packets to this host and those that it forwards.
 * Packets that the host itself sends do not pass it.
 */
export function createTunnelGuard({ bridge, udpPort, mtu }: TunnelGuardOptions): TunnelGuard {
  return {
    async ensure(tunnelAddress, signal) {
      const trusted =
        tunnelAddress === null ? undefined : await findInterface(tunnelAddress, signal);
      const accept = trusted === undefined ? [] : [`-i ${trusted.name} -j RETURN`];
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
      if (trusted) checkMtu(trusted, tunnelAddress?.includes(":") === true, mtu);
    },
  };
}

interface TunnelInterface {
  name: string;
  mtu: number | undefined;
}

async function findInterface(address: string, signal: AbortSignal): Promise<TunnelInterface> {
  const listed = await readIpJson(addressesSchema, ["address", "show", "to", address], signal);
  const found = listed.find(({ ifname }) => ifname !== undefined);
  const { ifname: name, mtu } = found ?? {};
  if (name !== undefined && interfacePattern.test(name)) return { name, mtu };
  throw new SwitchError(`No interface of this host has the tunnel's address ${address}.`);
}

/** With a larger MTU, connections of sets on two hosts would open, and hang with large packets. */
function checkMtu(
  { name, mtu = Infinity }: TunnelInterface,
  isIpv6: boolean,
  ofSets: number,
): void {
  const overhead = isIpv6 ? overheads.ipv6 : overheads.ipv4;
  if (ofSets + overhead <= mtu) return;
  throw new SwitchError(
    `The interface ${name} of the tunnel has the MTU ${mtu}, but packets of sets need ${ofSets + overhead}. Set BERTH_NETWORK_MTU to at most ${mtu - overhead} on all hosts.`,
  );
}
