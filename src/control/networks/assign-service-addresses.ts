import { claimSubnets, findFreeAddresses } from "../../db/queries/networks/assign-addresses.ts";
import {
  auditServiceAddresses,
  claimServicesToAddress,
  findPreviousServiceAddresses,
  insertServiceAddresses,
  listUnaddressedServices,
  markAddressed,
  quarantineServiceAddresses,
  type ServiceToAddress,
} from "../../db/queries/networks/service-addresses.ts";
import type { ControlContext, UnitOfWork } from "../runtime/context.ts";
import { unitOfWork } from "../runtime/unit-of-work.ts";
import { countWanted } from "./assign-addresses.ts";
import {
  chooseServiceAddresses,
  listServiceNeeds,
  listUnwanted,
} from "./choose-service-addresses.ts";
import { insertDefaultNetworks, isMissingDefault } from "./default-network.ts";

/** Bounds the locks of a transaction. */
const SERVICES_PER_BATCH_MAX = 100;
const BATCHES_PER_RUN_MAX = 10;
const SERVICES_PER_AUDIT_MAX = 1_000;

/**
 * Assigns service addresses: one of each subnet of the networks in the template of a service. It
 * also quarantines addresses in networks that a service has left.
 *
 * The creation of a service does not do it. It is one statement for many services, and would wait
 * for the locks of subnets, which placements hold.
 */
export class ServiceAddresses {
  readonly #ctx: ControlContext;
  /** The last services of the previous runs. So services that wait delay no others. */
  #lastNew = "";
  #lastLacking = "";
  #lastAudited = "";

  constructor(ctx: ControlContext) {
    this.#ctx = ctx;
  }

  /** Assigns the addresses of new and changed services. Returns the number of addresses. */
  async assign(signal?: AbortSignal): Promise<number> {
    let assigned = 0;
    for (let batch = 0; batch < BATCHES_PER_RUN_MAX; batch++) {
      if (signal?.aborted) break;
      const ids = await this.#list(this.#lastNew, false);
      if (ids.length > 0) assigned += await assignServiceAddresses(this.#ctx, ids);
      this.#lastNew = lastOfPage(ids, SERVICES_PER_BATCH_MAX) ?? "";
      if (this.#lastNew === "") break;
    }
    return assigned;
  }

  /**
   * Tries again for services that found no free address. Then checks the next services for
   * missing and unwanted addresses. `assign` corrects them.
   */
  async audit(signal?: AbortSignal): Promise<number> {
    let assigned = 0;
    for (let batch = 0; batch < BATCHES_PER_RUN_MAX; batch++) {
      if (signal?.aborted) break;
      const ids = await this.#list(this.#lastLacking, true);
      if (ids.length > 0) assigned += await assignServiceAddresses(this.#ctx, ids);
      this.#lastLacking = lastOfPage(ids, SERVICES_PER_BATCH_MAX) ?? "";
      if (this.#lastLacking === "") break;
    }
    const { db } = this.#ctx;
    const { last } = await auditServiceAddresses(db, this.#lastAudited, SERVICES_PER_AUDIT_MAX);
    this.#lastAudited = last ?? "";
    return assigned;
  }

  #list(after: string, isLacking: boolean): Promise<string[]> {
    const limit = SERVICES_PER_BATCH_MAX;
    return listUnaddressedServices(this.#ctx.db, { after, isLacking, limit });
  }
}

/** Undefined if the page is the last one. */
function lastOfPage(ids: readonly string[], limit: number): string | undefined {
  return ids.length < limit ? undefined : ids.at(-1);
}

/**
 * Assigns the addresses that these services lack, and returns how many. It skips services and
 * subnets that other transactions have locked: the next run of the sweep tries them again. An event
 * reports once for each revision that a network has no free address.
 */
export async function assignServiceAddresses(
  ctx: ControlContext,
  serviceIds: readonly string[],
): Promise<number> {
  return unitOfWork(ctx, async (tx) => {
    const services = await claimWithNetworks(tx, ctx, serviceIds);
    const needs = listServiceNeeds(services);
    const wanted = countWanted(needs.map(({ subnetId }) => subnetId));
    const subnetIds = wanted.map(({ subnetId }) => subnetId);
    const claimedIds = services.map(({ id }) => id);
    // Postgres runs them in this order: the reads see all that earlier holders of the locks wrote.
    const [subnets, previous, free] =
      needs.length === 0
        ? [[], [], []]
        : await Promise.all([
            claimSubnets(tx, subnetIds),
            findPreviousServiceAddresses(tx, claimedIds, subnetIds),
            findFreeAddresses(tx, wanted),
          ]);
    const result = chooseServiceAddresses(needs, { subnets, previous, free });
    const { chosen, cursors, exhausted, contended } = result;
    await insertServiceAddresses(tx, chosen, cursors);
    const left = await quarantineServiceAddresses(tx, listUnwanted(services));
    const unmet = new Set([...exhausted, ...contended].map(({ serviceId }) => serviceId));
    const isComplete = ({ id, networks }: (typeof services)[number]): boolean =>
      !unmet.has(id) && networks.every(({ networkId }) => networkId !== null);
    const lacking = services.filter(
      ({ id, isReported }) => !isReported && exhausted.some(({ serviceId }) => serviceId === id),
    );
    await markAddressed(tx, {
      complete: services.filter(isComplete).map(({ id }) => id),
      lacking: lacking.map(({ id }) => id),
    });
    for (const { id, tenantId, name } of lacking) {
      const ofService = exhausted.filter(({ serviceId }) => serviceId === id);
      const networks = [...new Set(ofService.map(({ network }) => network))];
      const data = { service: name, networks };
      tx.emit({ kind: "service-address-missing", tenantId, serviceId: id, data });
    }
    const networkIds = new Set([...chosen.map(({ networkId }) => networkId), ...left]);
    tx.signal(...[...networkIds].map((id) => `network:${id}` as const));
    return chosen.length;
  });
}

/**
 * Locks services, and creates the default networks that they lack. Without these, each run would
 * lock the services of a fleet from before its first networked host, and assign no address.
 */
async function claimWithNetworks(
  tx: UnitOfWork,
  ctx: ControlContext,
  serviceIds: readonly string[],
): Promise<ServiceToAddress[]> {
  const services = await claimServicesToAddress(tx, serviceIds);
  const lacking = services.filter(({ networks }) => networks.some(isMissingDefault));
  if (lacking.length === 0) return services;
  await insertDefaultNetworks(tx, ctx, [...new Set(lacking.map(({ tenantId }) => tenantId))]);
  return claimServicesToAddress(
    tx,
    services.map(({ id }) => id),
  );
}
