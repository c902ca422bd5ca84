import type { DesiredSet } from "../../contracts/agent-protocol/desired-set.ts";
import type { SetAddresses } from "../../contracts/agent-protocol/host-addresses.ts";
import { stripPrefixLength } from "../../lib/ip/ip-address.ts";

interface AddressReportsOptions {
  /** All sets that the agent manages, whether the control plane lists them or not. */
  listSets: () => readonly Pick<DesiredSet, "setId" | "attachments" | "hostPorts">[];
  /** Called when the API requests the addresses, so that a sync follows soon. */
  onRequested: () => void;
}

/**
 * Sends the addresses and host ports of all sets of the host when the API requests them. A restored
 * database lacks those of the newest sets, and must not give them to others.
 */
export class AddressReports {
  readonly #options: AddressReportsOptions;
  #isRequested = false;

  constructor(options: AddressReportsOptions) {
    this.#options = options;
  }

  /** Returns them if they are requested. After a failed sync, the next answer requests them. */
  take(): SetAddresses[] | undefined {
    if (!this.#isRequested) return undefined;
    this.#isRequested = false;
    return this.#options.listSets().flatMap(({ setId, attachments = [], hostPorts = [] }) => {
      if (attachments.length === 0 && hostPorts.length === 0) return [];
      const networks = attachments.map(({ networkId, mac, addresses }) => ({
        networkId,
        mac,
        addresses: addresses.map(stripPrefixLength),
      }));
      const ports = hostPorts.map(({ protocol, hostPort }) => ({ protocol, port: hostPort }));
      return { setId, networks, ...(ports.length > 0 && { hostPorts: ports }) };
    });
  }

  noteAnswer({ sendAddresses = false }: { sendAddresses?: boolean | undefined }): void {
    if (!sendAddresses) return;
    this.#isRequested = true;
    this.#options.onRequested();
  }
}
