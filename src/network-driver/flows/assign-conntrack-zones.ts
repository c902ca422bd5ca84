import { assert } from "../../lib/assert.ts";

const zonesMax = 65_535;

/**
 * Assigns a connection tracking zone to the number of each network of a host. A zone separates the
 * connections of networks with overlapping addresses, so no two networks share one.
 *
 * A network of `previous` stays in its zone, because its open connections are there. Another one
 * gets the zone that its number suggests, or the next free one. So a host that has lost its state
 * usually chooses the same zones again. Zones are from 1 to 65,535.
 */
export function assignConntrackZones(
  numbers: readonly number[],
  previous: ReadonlyMap<number, number> = new Map(),
): Map<number, number> {
  assert(numbers.length <= zonesMax, `${numbers.length} networks, at most ${zonesMax}`);
  const wanted = [...new Set(numbers)].sort((a, b) => a - b);
  const zones = new Map<number, number>();
  const taken = new Set<number>();
  for (const number of wanted) {
    const zone = previous.get(number);
    if (zone === undefined || taken.has(zone)) continue;
    zones.set(number, zone);
    taken.add(zone);
  }
  for (const number of wanted) {
    if (zones.has(number)) continue;
    let zone = (number % zonesMax) + 1;
    while (taken.has(zone)) zone = (zone % zonesMax) + 1;
    zones.set(number, zone);
    taken.add(zone);
  }
  return zones;
}
