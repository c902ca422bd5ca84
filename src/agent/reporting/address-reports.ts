import type { DesiredSet } from "../../contracts/agent-protocol/desired-set.ts";
import type { AddressReport } from "../../contracts/agent-protocol/address-report.ts";
import type { HostNetwork } from "../../contracts/network-driver/network-state.ts";
import { stripPrefixLength } from "../../lib/ip/ip-address.ts";
import type { Clock } from "../base/clock.ts";
import { RecentServiceAddresses } from "./recent-service-addresses.ts";

interface AddressReportsOptions {
  /** All sets that the agent manages, whether the control plane lists them or not. */
  listSets: () => readonly Pick<DesiredSet, "setId" | "attachments" | "hostPorts">[];
  clock: Pick<Clock, "nowMs">;
  /** Called when the API requests the addresses, so that a sync follows soon. */
  onRequested: () => void;
}

/**
 * Sends the addresses and host ports of all sets of the host when the API requests them, and the
 * service addresses of its networks. A restored database lacks the newest of them, and must not
 * give them to others.
 */
export class AddressReports {
  readonly #options: AddressReportsOptions;
  readonly #services: RecentServiceAddresses;
  #isRequested = false;

  constructor(options: AddressReportsOptions) {
    this.#options = options;
    this.#services = new RecentServiceAddresses(options.clock);
  }

  /** Notes the networks of the host, whose service addresses a report has. */
  noteNetworks(networks: readonly HostNetwork[]): void {
    this.#services.note(networks);
  }

  /** Returns them if they are requested. After a failed sync, the next answer requests them. */
  take(): AddressReport | undefined {
    if (!this.#isRequested) return undefined;
    this.#isRequested = false;
    const ofSets = this.#options
      .listSets()
      .flatMap(({ setId, attachments = [], hostPorts = [] }) => {
        if (attachments.length === 0 && hostPorts.length === 0) return [];
        const networks = attachments.map(({ networkId, mac, addresses }) => ({
          networkId,
          mac,
          addresses: addresses.map(stripPrefixLength),
        }));
        const ports = hostPorts.map(({ protocol, hostPort }) => ({ protocol, port: hostPort }));
        return { setId, networks, ...(ports.length > 0 && { hostPorts: ports }) };
      });
    return [...ofSets, ...this.#services.list()];
  }

  noteAnswer({ sendAddresses = false }: { sendAddresses?: boolean | undefined }): void {
    if (!sendAddresses) return;
    this.#isRequested = true;
    this.#options.onRequested();
  }
}
