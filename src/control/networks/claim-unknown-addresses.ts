import type {
  AddressReport,
  ServiceAddresses,
} from "../../contracts/agent-protocol/address-report.ts";
import { addUnknownSets } from "../../db/queries/hosts/unknown-sets.ts";
import {
  type AddressConflict,
  claimUnknownAddresses,
  endAddressRequest,
  findAddressRequest,
  listPermittedClaims,
  lockSubnetsOfNetworks,
} from "../../db/queries/networks/unknown-addresses.ts";
import {
  listLostServiceAddresses,
  type LostServiceAddress,
  quarantineLostServiceAddresses,
} from "../../db/queries/networks/service-addresses.ts";
import { claimUnknownHostPorts } from "../../db/queries/placement/host-ports.ts";
import { lockHosts } from "../../db/queries/sets/write-sets.ts";
import type { ControlContext, SignalChannel, UnitOfWork } from "../runtime/context.ts";
import { unitOfWork } from "../runtime/unit-of-work.ts";

/** An event names at most this many conflicts. */
const CONFLICTS_NAMED_MAX = 10;
/** A report begins again this often because addresses of other networks have become claimable. */
const RESTARTS_MAX = 3;

/** The report may claim addresses in networks whose subnets the transaction has not locked. */
class OtherNetworks extends Error {
  readonly networkIds: readonly string[];

  constructor(networkIds: readonly string[]) {
    super("the report may claim addresses in other networks");
    this.networkIds = networkIds;
  }
}

/**
 * Stores the addresses and host ports that sets of a host have, and that the database lacks because
 * it was restored (I18, I19). From then on, no other set gets them. Other hosts reach these sets.
 *
 * After a restore, it also quarantines the service addresses that the database lacks.
 *
 * It ignores a report that Berth has not requested, so that no agent claims addresses at will.
 *
 * It locks subnets before the host. A tenant can hold the locks of its subnets, and the reports of
 * the host and its placements would wait meanwhile.
 */
export async function storeAddressReport(
  ctx: ControlContext,
  hostId: string,
  reported: AddressReport,
): Promise<void> {
  const ofSets = reported.flatMap((each) => ("setId" in each ? each : []));
  const ofServices = reported.flatMap((each) => ("serviceId" in each ? each : []));
  /** Networks in which an earlier attempt found claimable addresses too late. */
  let others: readonly string[] = [];
  const claim = async (tx: UnitOfWork, isLast: boolean): Promise<AddressConflict[]> => {
    const expected = await findAddressRequest(tx, hostId);
    if (!expected) return [];
    const lost = expected.isAfterRestore ? await listLost(tx, ofServices) : [];
    const claims = await listPermittedClaims(tx, expected, ofSets);
    const claimed = listNetworkIds([...claims.addresses, ...lost]);
    const networkIds = [...new Set([...claimed, ...others])];
    await lockSubnetsOfNetworks(tx, networkIds);
    await lockHosts(tx, [hostId]);
    // A concurrent report may have ended the request or claimed addresses, so read both again.
    const request = await endAddressRequest(tx, hostId);
    if (!request) return [];
    if (request.isAfterRestore) await quarantineLostServiceAddresses(tx, lost);
    const permitted = await listPermittedClaims(tx, request, ofSets);
    const { hostPorts } = permitted;
    const unlocked = listNetworkIds(permitted.addresses).filter((id) => !networkIds.includes(id));
    if (unlocked.length > 0 && !isLast) throw new OtherNetworks([...networkIds, ...unlocked]);
    const unknown = permitted.addresses.filter(({ networkId }) => networkIds.includes(networkId));
    const setIds = [...new Set([...unknown, ...hostPorts].map(({ setId }) => setId))];
    if (setIds.length === 0) return [];
    const sets = await addUnknownSets(tx, hostId, setIds);
    if (sets > 0) tx.emit({ kind: "host-unknown-sets", data: { sets }, hostId });
    await claimUnknownHostPorts(tx, hostId, hostPorts);
    const found = await claimUnknownAddresses(tx, hostId, unknown, CONFLICTS_NAMED_MAX);
    const channels = listNetworkIds(unknown).map((id): SignalChannel => `network:${id}`);
    tx.signal(`host:${hostId}`, ...channels);
    if (found.length > 0) {
      const addresses = found.map(({ address }) => address);
      tx.emit({ kind: "host-addresses-conflicting", data: { addresses }, hostId });
    }
    return found;
  };
  for (let restarts = 0; ; restarts++)
    try {
      const isLast = restarts === RESTARTS_MAX;
      reportConflicts(ctx, hostId, await unitOfWork(ctx, (tx) => claim(tx, isLast)));
      return;
    } catch (error) {
      if (!(error instanceof OtherNetworks)) throw error;
      others = error.networkIds;
    }
}

function reportConflicts(
  ctx: ControlContext,
  hostId: string,
  conflicts: readonly AddressConflict[],
): void {
  for (const conflict of conflicts)
    ctx.log.error({ hostId, ...conflict }, "a set that the database lacks has an assigned address");
}

/** The service addresses that the database lacks. */
function listLost(
  tx: UnitOfWork,
  reported: readonly ServiceAddresses[],
): Promise<LostServiceAddress[]> {
  const each = reported.flatMap(({ addresses, ...service }) =>
    addresses.map((address) => ({ ...service, address })),
  );
  return listLostServiceAddresses(tx, each);
}

function listNetworkIds(addresses: readonly { networkId: string }[]): string[] {
  return [...new Set(addresses.map(({ networkId }) => networkId))];
}
