import { mergePortRanges } from "./port-ranges.ts";

/**
 * The rules of a network have at most this number of port matches. More flows of one tenant could
 * prevent the changes of all networks on a host.
 */
export const PORT_MATCHES_MAX = 100_000;

const portBits = 16;
const allBits = 2 ** portBits - 1;

/**
 * Returns matches of ports, with masks, that cover the ranges: a range of n ports has at most
 * 2 * log2(n) of them. Equal sets of ports have equal matches, whatever their ranges are.
 */
export function matchPorts(ranges: readonly { first: number; last: number }[]): string[] {
  return mergePortRanges(ranges).flatMap(({ first, last }) => {
    const matches: string[] = [];
    for (let port = first; port <= last;) {
      // The largest aligned block that begins with the port and ends in the range.
      let size = port === 0 ? allBits + 1 : port & -port;
      while (port + size - 1 > last) size /= 2;
      const mask = allBits - (size - 1);
      matches.push(size === 1 ? String(port) : `0x${port.toString(16)}/0x${mask.toString(16)}`);
      port += size;
    }
    return matches;
  });
}

/** Whether `matchPorts` returns more than `max` matches for all these sets of ranges together. */
export function hasMorePortMatches(
  sets: readonly (readonly { first: number; last: number }[])[],
  max: number,
): boolean {
  let most = 0;
  for (const ranges of sets)
    for (const { first, last } of ranges) most += first === last ? 1 : 2 * portBits;
  if (most <= max) return false;
  let count = 0;
  for (const ranges of sets) {
    count += matchPorts(ranges).length;
    if (count > max) return true;
  }
  return false;
}
