import { assert } from "../../lib/assert.ts";
import { gatewayZoneKey } from "./compile-gateway.ts";

/** The next number stands for the name server of the host: see `nameServerAddress`. */
const zonesMax = 65_534;

/**
 * Assigns a conntrack zone to the VNI of each network of a host. A zone separates the
 * connections of networks with overlapping addresses, so no two networks share one.
 *
 * A network of `previous` retains its zone, because its open connections are there. Another one
 * gets the zone derived from its VNI, or the next free one. So a host that has lost its state
 * usually chooses the same zones again. Zones are from 1 to 65,534.
 */
export function assignConntrackZones(
  vnis: readonly number[],
  previous: ReadonlyMap<number, number> = new Map(),
): Map<number, number> {
  assert(vnis.length <= zonesMax, `${vnis.length} networks, at most ${zonesMax}`);
  const wanted = [...new Set(vnis)].sort((a, b) => a - b);
  const zones = new Map<number, number>();
  const taken = new Set<number>();
  for (const vni of wanted) {
    const zone = previous.get(vni);
    if (zone === undefined || taken.has(zone)) continue;
    zones.set(vni, zone);
    taken.add(zone);
  }
  for (const vni of wanted) {
    if (zones.has(vni)) continue;
    const place = vni % zonesMax;
    // Those of gateways begin at the other end, so that they displace no network.
    let zone =
      vni < gatewayZoneKey(0) ? place + 1 : zonesMax - ((vni - gatewayZoneKey(0)) % zonesMax);
    while (taken.has(zone)) zone = (zone % zonesMax) + 1;
    zones.set(vni, zone);
    taken.add(zone);
  }
  return zones;
}
