import { readFileSync } from "node:fs";
import { type NetworkInterfaceInfo, networkInterfaces } from "node:os";
import { formatAddress, parseAddress } from "../../lib/ip/ip-address.ts";

const RTF_UP = 1;
const RTF_REJECT = 0x200;
const REFRESH_MS = 10_000;
const NO_ADDRESS = "0".repeat(32);

/** Sources of the kernel, which tests replace. */
export interface RouteFiles {
  route: string;
  ipv6Route: string;
}

const kernelFiles: RouteFiles = { route: "/proc/net/route", ipv6Route: "/proc/net/ipv6_route" };

/**
 * Returns a function that finds the address of the interface with the default route, IPv4 before
 * IPv6, unless `configured` names another one. It reads the kernel's routes at most every 10 s. If
 * the route disappears, for example while an interface restarts, the last address stays.
 */
export function createHostAddress(
  configured: string | undefined,
  files: RouteFiles = kernelFiles,
): () => string | null {
  let found: string | null = null;
  let readAtMs = Number.NEGATIVE_INFINITY;
  return () => {
    if (configured !== undefined) return configured;
    const nowMs = performance.now();
    if (nowMs - readAtMs < REFRESH_MS) return found;
    readAtMs = nowMs;
    found = findHostAddress(files) ?? found;
    return found;
  };
}

function findHostAddress({ route, ipv6Route }: RouteFiles): string | undefined {
  const interfaces = networkInterfaces();
  const ofInterface = (name: string | undefined, family: NetworkInterfaceInfo["family"]) => {
    const all = name === undefined ? [] : (interfaces[name] ?? []);
    const own = all.find((one) => one.family === family && !isLinkLocal(one));
    const address = own && parseAddress(own.address);
    return address && formatAddress(address);
  };
  return (
    ofInterface(findInterface4(readLines(route)), "IPv4") ??
    ofInterface(findInterface6(readLines(ipv6Route)), "IPv6")
  );
}

function isLinkLocal({ scopeid = 0 }: NetworkInterfaceInfo): boolean {
  return scopeid !== 0;
}

/** The interface of the default route with the lowest metric. */
function findInterface4(lines: readonly string[][]): string | undefined {
  const routes = lines.flatMap(([name, destination, , flags = "", , , metric, mask]) =>
    destination === "00000000" && mask === "00000000" && isUsable(flags)
      ? { name, metric: Number(metric) }
      : [],
  );
  return routes.sort((a, b) => a.metric - b.metric)[0]?.name;
}

function findInterface6(lines: readonly string[][]): string | undefined {
  const routes = lines.flatMap(([destination, prefix, , , , metric = "", , , flags = "", name]) =>
    destination === NO_ADDRESS && prefix === "00" && isUsable(flags)
      ? { name, metric: Number.parseInt(metric, 16) }
      : [],
  );
  return routes.sort((a, b) => a.metric - b.metric)[0]?.name;
}

function isUsable(flags: string): boolean {
  const bits = Number.parseInt(flags, 16);
  return (bits & RTF_UP) !== 0 && (bits & RTF_REJECT) === 0;
}

/** The words of each line. Empty without the file, as on a machine without IPv6. */
function readLines(file: string): string[][] {
  try {
    return readFileSync(file, "utf8")
      .split("\n")
      .map((line) => line.trim().split(/\s+/));
  } catch {
    return [];
  }
}
