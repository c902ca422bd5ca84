import { deriveMac } from "../../contracts/common/mac-address.ts";
import { readSubnet } from "../../contracts/common/subnet-addresses.ts";
import { claimSubnets, findFreeAddresses } from "../../db/queries/networks/assign-addresses.ts";
import {
  type ChosenGatewayAddress,
  deleteGatewayPorts,
  findPreviousGatewayAddresses,
  insertGatewayAddresses,
  insertGatewayPorts,
  listGateways,
  lockGateway,
  quarantineGatewayAddresses,
  readGatewayClaims,
} from "../../db/queries/networks/gateways.ts";
import { assert } from "../../lib/assert.ts";
import { formatAddress } from "../../lib/ip/ip-address.ts";
import type { ControlContext, UnitOfWork } from "../runtime/context.ts";
import { unitOfWork } from "../runtime/unit-of-work.ts";
import { type GatewayPlan, planGateway } from "./plan-gateway.ts";

const GATEWAYS_PER_PAGE_MAX = 50;
const PAGES_PER_RUN_MAX = 20;
/** A gateway without a free address is tried again in one of this number of runs. */
const RUNS_PER_RETRY = 5;

/**
 * Assigns ports of their hosts to gateways, and an address in each network of the services that
 * they publish: see docs/internals/gateways.md. It compares all gateways in each run, and locks
 * only those whose claims differ.
 */
export class Gateways {
  readonly #ctx: ControlContext;
  /** The last gateway of the previous run, if that did not reach the last one. */
  #after = "";
  #runs = 0;
  /** The gateways whose subnets another transaction had locked: the next run tries them again. */
  #waiting: ReadonlySet<string> = new Set();

  constructor(ctx: ControlContext) {
    this.#ctx = ctx;
  }

  /**
   * Returns the number of gateways whose claims have changed. It logs the failure of a gateway, and
   * goes on with the others.
   */
  async assign(signal?: AbortSignal): Promise<number> {
    const retries = this.#runs++ % RUNS_PER_RETRY === 0;
    const waited = this.#waiting;
    const waiting = new Set<string>();
    this.#waiting = waiting;
    let changed = 0;
    for (let page = 0; page < PAGES_PER_RUN_MAX; page++) {
      const ids = await listGateways(this.#ctx.db, this.#after, GATEWAYS_PER_PAGE_MAX);
      const claims = ids.length === 0 ? [] : await readGatewayClaims(this.#ctx.db, ids);
      for (const each of claims) {
        if (signal?.aborted) return changed;
        const { hostId } = each;
        const { added, dropped, missing, released } = planGateway(each);
        const isDue = retries || waited.has(hostId);
        const differences = [added, dropped, released, ...(isDue ? [missing] : [])];
        if (differences.every(({ length }) => length === 0)) continue;
        try {
          const result = await assignGateway(this.#ctx, hostId);
          if (result.isWaiting) waiting.add(hostId);
          changed += 1;
        } catch (error) {
          this.#ctx.log.error({ err: error, hostId }, "cannot assign the ports of a gateway");
        }
      }
      this.#after = ids.length < GATEWAYS_PER_PAGE_MAX ? "" : (ids.at(-1) ?? "");
      if (this.#after === "") break;
    }
    return changed;
  }
}

/**
 * Corrects the claims of one gateway. Skips subnets that other transactions have locked: then
 * `isWaiting` is true.
 */
async function assignGateway(ctx: ControlContext, hostId: string): Promise<{ isWaiting: boolean }> {
  return unitOfWork(ctx, async (tx) => {
    if (!(await lockGateway(tx, hostId))) return { isWaiting: false };
    const [claims] = await readGatewayClaims(tx, [hostId]);
    assert(claims, "a locked host exists");
    const plan = planGateway(claims);
    await deleteGatewayPorts(tx, hostId, plan.dropped);
    await insertGatewayPorts(tx, hostId, plan.added);
    await quarantineGatewayAddresses(
      tx,
      hostId,
      plan.released.map(({ subnetId }) => subnetId),
    );
    const { chosen, isWaiting } = await assignAddresses(tx, hostId, plan.missing);
    const assigned = plan.missing.filter(({ subnetId }) =>
      chosen.some((each) => each.subnetId === subnetId),
    );
    signal(tx, hostId, { ...plan, missing: assigned });
    return { isWaiting };
  });
}

/** Assigns an address of each subnet that has a free one. The gateway gets its last one again. */
async function assignAddresses(
  tx: UnitOfWork,
  hostId: string,
  missing: GatewayPlan["missing"],
): Promise<{ chosen: ChosenGatewayAddress[]; isWaiting: boolean }> {
  if (missing.length === 0) return { chosen: [], isWaiting: false };
  const wanted = missing.map(({ subnetId }) => ({ subnetId, count: 1 }));
  const subnetIds = missing.map(({ subnetId }) => subnetId);
  const subnets = await claimSubnets(tx, subnetIds);
  const previous = await findPreviousGatewayAddresses(tx, hostId, subnetIds);
  const free = await findFreeAddresses(tx, wanted);
  const chosen: ChosenGatewayAddress[] = [];
  const cursors: { subnetId: string; lastOffset: number }[] = [];
  for (const { id, family, cidr } of subnets) {
    const before = previous.find(({ subnetId }) => subnetId === id)?.address;
    const [offset] = free.find(({ subnetId }) => subnetId === id)?.offsets ?? [];
    let address = before;
    if (address === undefined && offset !== undefined) {
      address = formatAddress({ family, value: readSubnet(cidr).first + BigInt(offset) });
      cursors.push({ subnetId: id, lastOffset: offset });
    }
    const mac = address === undefined ? undefined : deriveMac([address]);
    if (address === undefined || mac === undefined) continue;
    chosen.push({ subnetId: id, address, mac, isReused: before !== undefined });
  }
  await insertGatewayAddresses(tx, hostId, chosen, cursors);
  return { chosen, isWaiting: subnets.length < missing.length };
}

function signal(tx: UnitOfWork, hostId: string, plan: GatewayPlan): void {
  const ports = [...plan.added, ...plan.dropped];
  const networks = [...ports, ...plan.missing, ...plan.released];
  const networkIds = new Set(networks.map(({ networkId }) => networkId));
  const serviceIds = new Set(ports.map(({ serviceId }) => serviceId));
  tx.signal(`host:${hostId}`);
  tx.signal(...[...networkIds].map((id) => `network:${id}` as const));
  tx.signal(...[...serviceIds].map((id) => `service:${id}` as const));
}
