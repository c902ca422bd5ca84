import { writeFile } from "node:fs/promises";
import { z } from "zod";
import type { Link, LinkPort, ListedLink } from "../../network-driver/ports/link-port.ts";
import { LinkError } from "../../network-driver/ports/link-port.ts";
import { CommandError, runCommand } from "../exec.ts";

const ip = "/sbin/ip";
const ethtool = "/sbin/ethtool";
/** A command waits for the kernel's lock of all network configuration, never for a network. */
const commandTimeoutMs = 5_000;
const namePattern = /^[a-z][a-z0-9-]{0,14}$/;

export interface VethLinksOptions {
  /**
   * True for the netdev datapath, which forwards frames as it reads them. The kernel leaves the
   * checksums of TCP and UDP to a network card that does not exist, and receivers drop them.
   */
  disablesChecksumOffload: boolean;
}

/** Links of this machine, changed by the programs `ip` and `ethtool`. */
export function createVethLinks({ disablesChecksumOffload }: VethLinksOptions): LinkPort {
  return {
    async ensure(link, signal) {
      for (const name of [link.hostEnd, link.containerEnd]) checkName(name);
      if (!(await addPair(link, signal))) {
        const found = (await list(signal)).find(({ name }) => name === link.hostEnd);
        if (!found || found.isPeerInOtherNamespace) {
          await remove(link.hostEnd, signal);
          if (!(await addPair(link, signal)))
            throw new LinkError(`Another program has created ${link.containerEnd}. Remove it.`);
        } else {
          const mtu = ["mtu", String(link.mtu)];
          await run(ip, ["link", "set", link.hostEnd, ...mtu, "up"], signal);
          await run(ip, ["link", "set", link.containerEnd, ...mtu], signal);
        }
      }
      await isolate(link.hostEnd);
    },
    async disableChecksumOffload(containerEnd, signal) {
      checkName(containerEnd);
      if (disablesChecksumOffload) await run(ethtool, ["-K", containerEnd, "tx", "off"], signal);
    },
    remove,
    list,
  };
}

/** Creates both ends in one step. Returns false if an interface has one of the names. */
async function addPair(
  { hostEnd, containerEnd, mac, mtu }: Link,
  signal: AbortSignal,
): Promise<boolean> {
  const own = ["link", "add", "name", hostEnd, "mtu", String(mtu), "up", "type", "veth"];
  const peer = ["peer", "name", containerEnd, "mtu", String(mtu), "address", mac];
  try {
    await run(ip, [...own, ...peer], signal);
    return true;
  } catch (error) {
    if (error instanceof LinkError && error.message.includes("File exists")) return false;
    throw error;
  }
}

async function remove(hostEnd: string, signal: AbortSignal): Promise<void> {
  checkName(hostEnd);
  try {
    await run(ip, ["link", "delete", "dev", hostEnd], signal);
  } catch (error) {
    if (error instanceof LinkError && error.message.includes("Cannot find device")) return;
    throw error;
  }
}

const listSchema = z.array(
  z.object({ ifname: z.string().optional(), link_netnsid: z.number().optional() }),
);

async function list(signal: AbortSignal): Promise<ListedLink[]> {
  const text = await run(ip, ["-json", "link", "show", "type", "veth"], signal);
  // Without any interface, `ip` prints nothing or an empty list, by version.
  const links = listSchema.parse(text.trim() === "" ? [] : JSON.parse(text));
  return links
    .flatMap(({ ifname, link_netnsid: namespace }) =>
      ifname === undefined
        ? []
        : [{ name: ifname, isPeerInOtherNamespace: namespace !== undefined }],
    )
    .sort((a, b) => (a.name < b.name ? -1 : 1));
}

/**
 * Excludes the host from the link. With the netdev datapath the kernel processes each frame as
 * well, bypassing all flows. So a set would reach every address and service of the host.
 *
 * Without IPv6 the host neither sends nor receives it. For IPv4 the end has no address and no
 * route, so the check of the reverse path refuses all packets, and `arp_ignore` all requests.
 */
async function isolate(hostEnd: string): Promise<void> {
  await Promise.all([
    setOption("ipv4", hostEnd, "arp_ignore", "8"),
    setOption("ipv4", hostEnd, "rp_filter", "1"),
    setOption("ipv6", hostEnd, "disable_ipv6", "1"),
  ]);
}

async function setOption(
  family: "ipv4" | "ipv6",
  name: string,
  option: string,
  value: string,
): Promise<void> {
  const file = `/proc/sys/net/${family}/conf/${name}/${option}`;
  await writeFile(file, value, { flag: "r+" }).catch((error: unknown) => {
    // A kernel without IPv6 has no such file.
    const isMissing = error instanceof Error && "code" in error && error.code === "ENOENT";
    if (isMissing && family === "ipv6") return;
    throw new LinkError(`Cannot set ${option} of ${name}.`, { cause: error });
  });
}

async function run(path: string, args: readonly string[], signal: AbortSignal): Promise<string> {
  try {
    return await runCommand(path, args, { timeoutMs: commandTimeoutMs, signal });
  } catch (error) {
    if (!(error instanceof CommandError)) throw error;
    throw new LinkError(`Linux refused to change a network interface: ${error.message}`, {
      cause: error,
    });
  }
}

/** The names are arguments of programs, which must not read them as options. */
function checkName(name: string): void {
  if (!namePattern.test(name)) throw new LinkError(`${name} is not a name of an interface.`);
}
