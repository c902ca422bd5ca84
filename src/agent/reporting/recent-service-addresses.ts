import type { ServiceAddresses } from "../../contracts/agent-protocol/address-report.ts";
import {
  type HostNetwork,
  SERVICES_PER_HOST_MAX,
} from "../../contracts/network-driver/network-state.ts";
import type { Clock } from "../base/clock.ts";

/** As long as the quarantine of an address, which clients may have cached. */
const REMEMBERED_MS = 600_000;

/**
 * The service addresses of the host's networks, now and in the last ten minutes. A restored
 * database lacks the newest ones. Its networks of the host may arrive before it requests them.
 */
export class RecentServiceAddresses {
  readonly #clock: Pick<Clock, "nowMs">;
  #current = new Map<string, ServiceAddresses>();
  readonly #former = new Map<string, { addresses: ServiceAddresses; leftAtMs: number }>();

  constructor(clock: Pick<Clock, "nowMs">) {
    this.#clock = clock;
  }

  /** Notes the networks that replace the previous ones. */
  note(networks: readonly HostNetwork[]): void {
    const leftAtMs = this.#clock.nowMs();
    const next = new Map<string, ServiceAddresses>();
    for (const { networkId, services } of networks)
      for (const { serviceId, addresses } of services)
        if (addresses.length > 0)
          next.set(`${networkId} ${serviceId}`, { serviceId, networkId, addresses });
    for (const [key, addresses] of this.#current)
      if (!next.has(key)) this.#former.set(key, { addresses, leftAtMs });
    for (const key of next.keys()) this.#former.delete(key);
    this.#current = next;
    this.#forget(leftAtMs);
  }

  /** At most as many as a report may have. */
  list(): ServiceAddresses[] {
    this.#forget(this.#clock.nowMs());
    const former = [...this.#former.values()].map(({ addresses }) => addresses);
    return [...former, ...this.#current.values()].slice(0, SERVICES_PER_HOST_MAX);
  }

  /** The oldest come first. */
  #forget(nowMs: number): void {
    for (const [key, { leftAtMs }] of this.#former) {
      const isOld = nowMs - leftAtMs >= REMEMBERED_MS;
      if (!isOld && this.#former.size <= SERVICES_PER_HOST_MAX) return;
      this.#former.delete(key);
    }
  }
}
