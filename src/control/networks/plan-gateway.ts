import {
  GATEWAY_PORTS_MAX,
  GATEWAY_TARGETS_MAX,
} from "../../contracts/network-driver/network-state.ts";
import type { GatewayClaim, GatewayClaims } from "../../db/queries/networks/gateways.ts";

/** The changes of a gateway's claims. */
export interface GatewayPlan {
  added: GatewayClaim[];
  dropped: GatewayClaim[];
  /** The subnets in which the gateway needs an address, and has none. */
  missing: { networkId: string; subnetId: string }[];
  /** The subnets in which it needs none. A silent host may still use the address there. */
  released: { networkId: string; subnetId: string }[];
}

/**
 * Compares the claims that a gateway has with those that it should have. A port that the gateway
 * has stays with its service, while the service wants it. A free port goes to the first service.
 * The port of a set stays with the set. A host gets no further port beyond GATEWAY_PORTS_MAX, or
 * for which the sets of all its ports exceed GATEWAY_TARGETS_MAX.
 *
 * A host that cannot publish retains what it has, because its network driver may only be
 * restarting.
 */
export function planGateway({
  canPublish,
  wanted,
  held,
  taken,
  addresses,
}: GatewayClaims): GatewayPlan {
  const wantedClaims = new Set(wanted.map(describe));
  const retained = held.filter((claim) => wantedClaims.has(describe(claim)));
  const unavailable = new Set([...retained, ...taken].map(describePort));
  const retainedClaims = new Set(retained.map(describe));
  let targets = 0;
  for (const claim of wanted) if (retainedClaims.has(describe(claim))) targets += claim.sets;
  const added: GatewayClaim[] = [];
  for (const { subnetId: _subnetId, sets, ...claim } of canPublish ? wanted : []) {
    if (unavailable.has(describePort(claim))) continue;
    const hasCapacity = retained.length + added.length < GATEWAY_PORTS_MAX;
    if (!hasCapacity || targets + sets > GATEWAY_TARGETS_MAX) continue;
    unavailable.add(describePort(claim));
    added.push(claim);
    targets += sets;
  }
  const networkIds = new Set([...retained, ...added].map(({ networkId }) => networkId));
  const needed = new Map<string, string>();
  for (const { networkId, subnetId } of wanted)
    if (networkIds.has(networkId)) needed.set(subnetId, networkId);
  const having = new Set(addresses.map(({ subnetId }) => subnetId));
  return {
    added,
    dropped: held.filter((claim) => !wantedClaims.has(describe(claim))),
    missing: [...needed]
      .filter(([subnetId]) => !having.has(subnetId))
      .map(([subnetId, networkId]) => ({ networkId, subnetId })),
    released: addresses.filter(({ subnetId }) => !needed.has(subnetId)),
  };
}

function describe({ serviceId, networkId, name, ...port }: GatewayClaim): string {
  return `${describePort(port)} ${serviceId} ${networkId} ${name}`;
}

function describePort({ protocol, port }: Pick<GatewayClaim, "protocol" | "port">): string {
  return `${port}/${protocol}`;
}
