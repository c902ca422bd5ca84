import type { Log } from "../../lib/log.ts";
import type { FlowNetwork } from "../flows/compile-flows.ts";
import type { SwitchPort } from "../ports/switch-port.ts";
import { FairRetries } from "./fair-retries.ts";

/**
 * The addresses of sets that have left their services, until the switch has forgotten their tracked
 * connections. Otherwise a client that uses the port of an old connection again would reach the
 * address of a deleted set, above all by UDP.
 *
 * It knows only the changes since this process started.
 */
export class StaleConnections {
  readonly #switchPort: SwitchPort;
  readonly #log: Log;
  /** The networks of the last flows, by zone. */
  #networks: ReadonlyMap<number, FlowNetwork> = new Map();
  /** The addresses that have left, by zone. */
  readonly #stale = new Map<number, ReadonlySet<string>>();
  readonly #retries = new FairRetries<number>();

  constructor({ switchPort, log }: { switchPort: SwitchPort; log: Log }) {
    this.#switchPort = switchPort;
    this.#log = log;
  }

  /** Call it when the flows of these networks are in force, so that no other address is reached. */
  update(networks: readonly FlowNetwork[]): void {
    const current = new Map(networks.map((network) => [network.conntrackZone, network]));
    for (const [zone, before] of this.#networks) {
      const now = current.get(zone);
      // ConntrackZones ends all connections of a network that has left the host.
      if (now?.vni !== before.vni) this.#stale.delete(zone);
      // Most flows change because of a container, and then no service does.
      else if (now.services !== before.services) this.#noteLeft(zone, before, now);
    }
    this.#networks = current;
  }

  /**
   * Ends the connections of a pass of networks: see FairRetries. A failure is only logged, because
   * it interrupts no connection of a running set.
   */
  async end(signal: AbortSignal): Promise<void> {
    await this.#retries.run([...this.#stale.keys()], {
      work: async (zone) => {
        const addresses = this.#stale.get(zone);
        if (!addresses) return;
        await this.#switchPort.endConnections({ zone, addresses }, signal);
        if (this.#stale.get(zone) === addresses) this.#stale.delete(zone);
      },
      onFirstFailure: (zone, error) =>
        this.#log.warn({ err: error, zone }, "cannot end the connections of deleted sets"),
      signal,
    });
  }

  #noteLeft(zone: number, before: FlowNetwork, now: FlowNetwork): void {
    const present = listAddresses(now);
    const left = [...(this.#stale.get(zone) ?? []), ...listAddresses(before)].filter(
      (address) => !present.has(address),
    );
    if (left.length === 0) this.#stale.delete(zone);
    else this.#stale.set(zone, new Set(left));
  }
}

/** The addresses of sets to which service addresses may have led. */
function listAddresses({ services = [] }: FlowNetwork): Set<string> {
  const reached = services.filter(({ addresses }) => addresses.length > 0);
  return new Set(reached.flatMap(({ members }) => members.flatMap(({ addresses }) => addresses)));
}
