import type { Log } from "../../lib/log.ts";
import { assignConntrackZones } from "../flows/assign-conntrack-zones.ts";
import type { SwitchPort } from "../ports/switch-port.ts";
import type { EndpointRecords } from "./endpoint-records.ts";

/** Zones that wait for their flush. Beyond it, the driver forgets the oldest. */
const RELEASED_MAX = 16_000;

interface ZoneSources {
  records: Pick<EndpointRecords, "zones" | "putZones">;
  switchPort: Pick<SwitchPort, "endConnections">;
  log: Log;
}

/**
 * The conntrack zones of the host's networks, by VNI. They are stored: two VNIs can derive the same
 * zone, and after a restart the order of their arrival would be a different one. Each would then
 * find the open connections of the other.
 *
 * A network that has left the host holds its zone until the connections in it are removed. So a new
 * network never finds connections of an earlier one.
 */
export class ConntrackZones {
  readonly #sources: ZoneSources;
  #zones: ReadonlyMap<number, number>;
  #released: readonly number[] = [];

  constructor(sources: ZoneSources) {
    this.#sources = sources;
    this.#zones = sources.records.zones;
  }

  /** Those of the last `assign`: the same object until they change. */
  get current(): ReadonlyMap<number, number> {
    return this.#zones;
  }

  /** Assigns the zones of these VNIs. Call `store` before a flow uses them. */
  assign(vnis: readonly number[]): ReadonlyMap<number, number> {
    const current = new Set(vnis);
    this.#released = [...this.#zones.keys()]
      .filter((vni) => !current.has(vni))
      .slice(-RELEASED_MAX);
    const zones = assignConntrackZones([...this.#released, ...vnis], this.#zones);
    if (describe(zones) !== describe(this.#zones)) this.#zones = zones;
    return this.#zones;
  }

  /** Resolves even if the store fails: then `saveChanges` of the records stores them later. */
  async store(): Promise<void> {
    const { records } = this.#sources;
    if (describe(records.zones) !== describe(this.#zones)) await records.putZones(this.#zones);
  }

  /**
   * Removes the connections of networks that have left the host. Call it once no flow uses their
   * zones. Resolves even if the switch fails: then the next call repeats it.
   */
  async flushReleased(signal: AbortSignal): Promise<void> {
    if (this.#released.length === 0) return;
    const zones = new Map(this.#zones);
    for (const vni of this.#released) {
      const zone = zones.get(vni);
      try {
        if (zone !== undefined) await this.#sources.switchPort.endConnections({ zone }, signal);
      } catch (error) {
        this.#sources.log.warn({ err: error, vni, zone }, "cannot remove old connections");
        break;
      }
      zones.delete(vni);
    }
    this.#zones = zones;
    await this.store();
  }
}

function describe(zones: ReadonlyMap<number, number>): string {
  return JSON.stringify([...zones].sort(([a], [b]) => a - b));
}
