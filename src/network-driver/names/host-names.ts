import type { DriverStatus } from "../../contracts/network-driver/driver-status.ts";
import { coalesce } from "../../lib/async/coalesce.ts";
import type { NameServer, NameTable } from "../ports/name-server.ts";
import { compileNames, type NamedNetwork } from "./compile-names.ts";

type NamesStatus = DriverStatus["names"];

/**
 * Writes the names of the networks to the name server. Only one `apply` runs at a time. Calls that
 * arrive meanwhile share the next run.
 *
 * A failure concerns only names: containers start, and flows are applied. It lasts until the next
 * `apply`, which the caller repeats. Meanwhile a server that runs answers the last names.
 */
export class HostNames {
  readonly #server: NameServer | undefined;
  readonly #listNetworks: () => readonly NamedNetwork[] | undefined;
  readonly #apply: (signal?: AbortSignal) => Promise<void>;
  #networks: readonly NamedNetwork[] | undefined;
  #table: NameTable | undefined;
  #hasBegun = false;
  #status: NamesStatus = { state: "off", reason: null };

  /**
   * @param server undefined if the host has no names
   * @param listNetworks returns the same object until the networks change. Undefined while they are
   * unknown: the last names stay in force.
   */
  constructor(
    server: NameServer | undefined,
    listNetworks: () => readonly NamedNetwork[] | undefined,
  ) {
    this.#server = server;
    this.#listNetworks = listNetworks;
    this.#apply = coalesce((signal) => this.#write(signal));
  }

  get status(): NamesStatus {
    return this.#status;
  }

  /**
   * Resolves when the server answers the names of all changes before the call, or if the host has
   * no name server. A server that has never answered is none, and the status says why. Rejects with
   * the reason that the status has.
   */
  async apply(signal: AbortSignal): Promise<void> {
    await this.#apply(signal);
  }

  /**
   * Until the first run has ended, a server that answered an earlier process is down, and not off.
   * Docker fixes the name server of a container at its creation.
   */
  async #noteEarlierNames(server: NameServer): Promise<void> {
    if (this.#hasBegun) return;
    this.#hasBegun = true;
    if (await server.hasServed())
      this.#status = { state: "down", reason: "The driver has not checked the name server yet." };
  }

  async #write(signal: AbortSignal = new AbortController().signal): Promise<void> {
    if (!this.#server || !(await this.#server.isInstalled())) {
      this.#status = { state: "off", reason: null };
      return;
    }
    await this.#noteEarlierNames(this.#server);
    try {
      const networks = this.#listNetworks();
      if (networks && networks !== this.#networks) this.#table = compileNames(networks);
      this.#networks = networks ?? this.#networks;
      if (this.#table) await this.#server.apply(this.#table, signal);
      this.#status = { state: "up", reason: null };
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      const hasServed = await this.#server.hasServed();
      this.#status = { state: hasServed ? "down" : "off", reason };
      if (hasServed) throw error;
    }
  }
}
