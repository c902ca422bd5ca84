import type { AddressFault } from "../../contracts/api/networks.ts";
import type { SubnetSupply } from "./model.ts";

/** The free addresses of the subnets that the requests of a plan name. */
export class FreeAddressCounts {
  readonly #free = new Map<string, number>();

  /** Adds subnets unless they are known, and returns their ids. */
  add(subnets: readonly SubnetSupply[]): readonly string[] {
    for (const { id, free } of subnets) if (!this.#free.has(id)) this.#free.set(id, free);
    return subnets.map(({ id }) => id);
  }

  /** Whether one of these subnets has no free address. */
  isExhausted(subnetIds: readonly string[]): boolean {
    return subnetIds.some((id) => (this.#free.get(id) ?? 0) <= 0);
  }

  /** The reason why no networked host has the addresses of a request, if there is one. */
  findFault({
    addressFault,
    subnetIds,
  }: {
    addressFault: AddressFault | undefined;
    subnetIds: readonly string[];
  }): AddressFault | "subnet-exhausted" | undefined {
    return addressFault ?? (this.isExhausted(subnetIds) ? "subnet-exhausted" : undefined);
  }

  /** Counts a placement, which uses an address of each of these subnets. */
  notePlaced(subnetIds: readonly string[]): void {
    for (const id of subnetIds) this.#free.set(id, (this.#free.get(id) ?? 0) - 1);
  }
}
