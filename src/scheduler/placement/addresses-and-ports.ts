import {
  addBits,
  type Bitmap,
  countBits,
  hasBit,
  newBitmap,
  setBit,
  withoutBits,
} from "./bitmap.ts";
import { FreeAddressCounts } from "./free-addresses.ts";
import type { HostTable } from "./host-table.ts";
import type { PlacementConstraints, RejectReason } from "./model.ts";

/** The addresses and host ports that each placement of a shape takes. */
export interface Wanted {
  readonly subnetIds: readonly string[];
  readonly addressFault: PlacementConstraints["addressFault"];
  /** The keys of host ports, such as "tcp/80". */
  readonly hostPorts: readonly string[];
}

/**
 * The free addresses of subnets and the host ports that are taken, by the requests of a plan and by
 * its placements. Both only shrink within a plan.
 */
export class AddressesAndPorts {
  readonly #table: Pick<HostTable, "hosts" | "networked" | "rankById">;
  readonly #free = new FreeAddressCounts();
  /** The hosts on which a port is taken. */
  readonly #taken = new Map<string, Bitmap>();

  constructor(table: Pick<HostTable, "hosts" | "networked" | "rankById">) {
    this.#table = table;
  }

  /** Adds the subnets and ports of a request. */
  add({
    subnets,
    addressFault,
    hostPorts,
  }: Pick<PlacementConstraints, "subnets" | "addressFault" | "hostPorts">): Wanted {
    for (const { key, takenOn } of hostPorts) {
      const taken = this.#taken.get(key) ?? newBitmap(this.#table.hosts.length);
      this.#taken.set(key, taken);
      for (const hostId of takenOn) {
        const rank = this.#table.rankById.get(hostId);
        if (rank !== undefined) setBit(taken, rank);
      }
    }
    const ports = hostPorts.map(({ key }) => key);
    return { subnetIds: this.#free.add(subnets), addressFault, hostPorts: ports };
  }

  /** Those of the hosts that have the addresses and the ports. */
  restrict(hosts: Bitmap, wanted: Wanted): Bitmap {
    let rest = hosts;
    if (this.#free.findFault(wanted)) rest = withoutBits(rest, this.#table.networked);
    for (const key of wanted.hostPorts) rest = withoutBits(rest, this.#takenOf(key));
    return rest;
  }

  /** Whether a port is taken on the host. */
  isPortTaken(rank: number, { hostPorts }: Wanted): boolean {
    return hostPorts.some((key) => hasBit(this.#takenOf(key), rank));
  }

  /** Counts a placement. */
  notePlaced(rank: number, { subnetIds, hostPorts }: Wanted): void {
    if (hasBit(this.#table.networked, rank)) this.#free.notePlaced(subnetIds);
    for (const key of hostPorts) setBit(this.#takenOf(key), rank);
  }

  /** Counts the hosts without the addresses, and those without the ports. */
  countAgainst(wanted: Wanted): Map<RejectReason, number> {
    const counts = new Map<RejectReason, number>();
    const fault = this.#free.findFault(wanted);
    if (fault) counts.set(fault, countBits(this.#table.networked));
    if (wanted.hostPorts.length > 0) {
      const taken = newBitmap(this.#table.hosts.length);
      for (const key of wanted.hostPorts) addBits(taken, this.#takenOf(key));
      counts.set("host-port-taken", countBits(taken));
    }
    return counts;
  }

  #takenOf(key: string): Bitmap {
    return this.#taken.get(key) as Bitmap; // `add` has created it
  }
}
