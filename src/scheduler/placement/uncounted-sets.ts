import type { Fleet } from "./fleet.ts";
import type { HostTable } from "./host-table.ts";
import type { PlacementRequest } from "./model.ts";

type Counts = Map<string, number>;

/**
 * The departing sets that spread does not count during one plan: those of the constraints, and
 * those whose replacements the plan has placed.
 */
export class UncountedSets {
  readonly #fleet: Fleet;
  readonly #table: HostTable;
  /** The sets that `note` recorded, by service and host id. */
  readonly #here = new Map<string, Counts>();

  constructor(fleet: Fleet, table: HostTable) {
    this.#fleet = fleet;
    this.#table = table;
  }

  /** Finds the host of the set that the request replaces, if spread still counts that set. */
  findReplacedRank(request: PlacementRequest): number | undefined {
    const { serviceId, constraints, replacesOnHostId: hostId } = request;
    if (hostId === undefined) return undefined;
    const before = constraints.uncountedSets.get(hostId) ?? 0;
    const here = this.#here.get(serviceId)?.get(hostId) ?? 0;
    const onHost = this.#fleet.countSetsByHost(serviceId).get(hostId) ?? 0;
    return onHost > before + here ? this.#table.rankById.get(hostId) : undefined;
  }

  /** Records that spread stops counting a set on a host, or counts it again. */
  note(serviceId: string, rank: number, change: -1 | 1): void {
    const hostId = this.#table.hosts[rank]?.id ?? "";
    const counts = this.#here.get(serviceId) ?? new Map<string, number>();
    this.#here.set(serviceId, counts.set(hostId, (counts.get(hostId) ?? 0) - change));
  }

  /** Lists the ranks of the sets of a service that `note` recorded, once for each set. */
  listRanks(serviceId: string): number[] {
    return [...(this.#here.get(serviceId) ?? [])].flatMap(([hostId, count]) => {
      const rank = this.#table.rankById.get(hostId);
      return rank === undefined ? [] : Array.from({ length: count }, () => rank);
    });
  }
}
