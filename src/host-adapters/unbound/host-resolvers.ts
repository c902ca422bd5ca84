import { readFile } from "node:fs/promises";
import { isIP } from "node:net";

/** The same number as in the C library. */
const resolversMax = 3;
/**
 * systemd-resolved and NetworkManager write the servers behind their own stub there. The stub also
 * answers names of the host itself, which sets must not see.
 */
const files = [
  "/etc/resolv.conf",
  "/run/systemd/resolve/resolv.conf",
  "/run/NetworkManager/no-stub-resolv.conf",
];

/**
 * Reads the resolvers of the host: those of the first file that names one which is not a loopback
 * address. If none does, returns the loopback addresses of /etc/resolv.conf, by default 127.0.0.1.
 */
export async function readHostResolvers(paths: readonly string[] = files): Promise<string[]> {
  const texts = await Promise.all(paths.map((path) => readFile(path, "utf8").catch(() => "")));
  const lists = texts.map(parseResolvers);
  const found = lists
    .map((list) => list.filter((address) => !isLoopback(address)))
    .find((list) => list.length > 0);
  const [loopback = []] = lists;
  const resolvers = found ?? (loopback.length > 0 ? loopback : ["127.0.0.1"]);
  return resolvers.slice(0, resolversMax);
}

/** Omits addresses with a zone, such as fe80::1%eth0. */
function parseResolvers(text: string): string[] {
  return [...text.matchAll(/^\s*nameserver\s+(\S+)/gm)]
    .map((match) => match[1] ?? "")
    .filter((address) => isIP(address) !== 0 && !address.includes("%"));
}

function isLoopback(address: string): boolean {
  return address.startsWith("127.") || address === "::1";
}
