import { createSocket } from "node:dgram";
import { lookup } from "node:dns/promises";
import { BlockList } from "node:net";
import { withTimeout } from "../../lib/async/with-timeout.ts";
import { formatAddress, parseAddress } from "../../lib/ip/ip-address.ts";

const loopback = new BlockList();
loopback.addSubnet("127.0.0.0", 8, "ipv4");
loopback.addAddress("::1", "ipv6");
const lookupTimeoutMs = 5_000;

/**
 * The address of this machine's interface that reaches the API. It sends no packet: the kernel
 * chooses the interface when a datagram socket gets its peer. Null if the API is on this machine.
 * Undefined if that is unknown now, because its name has no address or no route leads there.
 */
export async function findTunnelAddress(apiUrl: string): Promise<string | null | undefined> {
  const { hostname, port, protocol } = new URL(apiUrl);
  try {
    const name = hostname.replace(/^\[|\]$/g, "");
    const found = await withTimeout(lookup(name), lookupTimeoutMs, undefined);
    if (!found) return undefined;
    const { address, family } = found;
    const peer = { address, port: Number(port) || (protocol === "https:" ? 443 : 80) };
    const own = await readLocalAddress(peer, family === 6 ? "udp6" : "udp4");
    const parsed = parseAddress(own);
    if (!parsed) return undefined;
    if (loopback.check(own, family === 6 ? "ipv6" : "ipv4")) return null;
    return formatAddress(parsed);
  } catch {
    return undefined;
  }
}

function readLocalAddress(
  { address, port }: { address: string; port: number },
  type: "udp4" | "udp6",
): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = createSocket(type);
    socket.on("error", (error) => {
      socket.close();
      reject(error);
    });
    socket.connect(port, address, () => {
      const own = socket.address().address;
      socket.close();
      resolve(own);
    });
  });
}
