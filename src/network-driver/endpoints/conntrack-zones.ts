import { linkAbort, onAbort } from "../../lib/async/abort.ts";
import type { Log } from "../../lib/log.ts";
import { assignConntrackZones } from "../flows/assign-conntrack-zones.ts";
import type { SwitchPort } from "../ports/switch-port.ts";
import type { EndpointRecords } from "./endpoint-records.ts";
import { FairRetries } from "./fair-retries.ts";

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
  /** Those that no flow uses. The return of a network aborts the removal of its connections. */
  readonly #unused = new Map<number, AbortController>();
  readonly #retries = new FairRetries<number>();

  constructor(sources: ZoneSources) {
    this.#sources = sources;
    this.#zones = sources.records.zones;
  }

  /** See FairRetries. */
  findLastingError(): unknown {
    return this.#retries.findLastingError();
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
    for (const vni of this.#unused.keys()) if (current.has(vni)) this.#forget(vni);
    const zones = assignConntrackZones([...this.#released, ...vnis], this.#zones);
    if (describe(zones) !== describe(this.#zones)) this.#zones = zones;
    return this.#zones;
  }

  /** Resolves even if the store fails: then `saveChanges` of the records stores them later. */
  async store(): Promise<void> {
    const { records } = this.#sources;
    if (describe(records.zones) !== describe(this.#zones)) await records.putZones(this.#zones);
  }

  /** Call it when the flows with the zones of the last `assign` are in force. */
  confirm(): void {
    const released = new Set(this.#released);
    for (const vni of this.#unused.keys()) if (!released.has(vni)) this.#forget(vni);
    for (const vni of released)
      if (!this.#unused.has(vni)) this.#unused.set(vni, new AbortController());
  }

  /**
   * Removes the connections of a pass of networks that have left the host: see FairRetries. The
   * caller repeats it, even if `assign` runs meanwhile.
   */
  async flushReleased(signal: AbortSignal): Promise<void> {
    if (this.#unused.size === 0) return;
    await this.#retries.run([...this.#unused.keys()], {
      work: (vni) => this.#flush(vni, signal),
      onFirstFailure: (vni, error) =>
        this.#sources.log.warn({ err: error, vni }, "cannot remove old connections"),
      signal,
    });
    await this.store();
  }

  async #flush(vni: number, signal: AbortSignal): Promise<void> {
    const release = this.#unused.get(vni);
    const zone = this.#zones.get(vni);
    if (!release) return;
    if (zone !== undefined) await this.#endAll(zone, { release, signal });
    // The network may have returned meanwhile, and then it has its zone again.
    if (release.signal.aborted) return;
    this.#unused.delete(vni);
    const zones = new Map(this.#zones);
    zones.delete(vni);
    this.#zones = zones;
    this.#released = this.#released.filter((each) => each !== vni);
  }

  /** A network that returns keeps the connections that it opens from then on. */
  async #endAll(
    zone: number,
    { release, signal }: { release: AbortController; signal: AbortSignal },
  ): Promise<void> {
    const { controller, unlink } = linkAbort(signal);
    const unlisten = onAbort(release.signal, () => controller.abort());
    try {
      await this.#sources.switchPort.endConnections({ zone }, controller.signal);
    } catch (error) {
      if (!release.signal.aborted) throw error;
    } finally {
      unlisten();
      unlink();
    }
  }

  #forget(vni: number): void {
    this.#unused.get(vni)?.abort();
    this.#unused.delete(vni);
  }
}

function describe(zones: ReadonlyMap<number, number>): string {
  return JSON.stringify([...zones].sort(([a], [b]) => a - b));
}
