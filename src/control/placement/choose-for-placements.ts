import type { TemplatePort } from "../../contracts/api/template-ports.ts";
import type { PortRange } from "../../contracts/common/port-ranges.ts";
import type { TemplateNetwork } from "../../db/queries/networks/template-networks.ts";
import {
  type ChosenHostPort,
  insertHostPorts,
  listUsedHostPorts,
} from "../../db/queries/placement/host-ports.ts";
import type { Queryable } from "../../db/postgres/open-postgres.ts";
import type { HostSnapshot } from "../../scheduler/placement/model.ts";
import type { AssignedAddresses } from "../networks/assign-addresses.ts";
import { chooseAddressesOfPlacements, storeAddresses } from "../networks/choose-addresses.ts";
import type { UnitOfWork } from "../runtime/context.ts";
import { assignHostPorts } from "./assign-host-ports.ts";

/** A planned placement, as far as addresses and ports depend on it. */
interface Placeable {
  setId: string;
  hostId: string;
  generation: number;
}

/** The addresses and host ports of sets that are about to be booked. */
export interface ChosenForPlacements extends AssignedAddresses {
  hostPorts: ChosenHostPort[];
}

export const nothingChosen: ChosenForPlacements = { chosen: [], cursors: [], hostPorts: [] };

/**
 * Chooses addresses and host ports for planned placements on locked hosts. Returns the placements
 * without those that lack one. The caller books the others, and stores what was chosen with
 * `storeChosen`. Sets on hosts without networks need no addresses. Sets without published ports
 * need no host ports, and cost no statement.
 */
export async function chooseForPlacements<P extends Placeable>(
  tx: Queryable,
  placements: readonly P[],
  {
    requests,
    hosts,
    range,
  }: {
    requests: ReadonlyMap<
      string,
      {
        templateNetworks: readonly TemplateNetwork[] | null;
        publishedPorts: readonly TemplatePort[];
      }
    >;
    hosts: ReadonlyMap<string, Pick<HostSnapshot, "features">>;
    range: PortRange;
  },
): Promise<{ placements: P[]; chosen: ChosenForPlacements; isContended: boolean }> {
  const needs = placements.flatMap(({ setId, hostId, generation }) => {
    const ports = requests.get(setId)?.publishedPorts ?? [];
    return ports.length === 0 ? [] : { setId, hostId, generation, ports };
  });
  const hostIds = [...new Set(needs.map(({ hostId }) => hostId))];
  const used = needs.length === 0 ? [] : await listUsedHostPorts(tx, hostIds);
  const hostPorts = assignHostPorts(needs, used, range);
  const withPorts = new Set(hostPorts.map(({ setId }) => setId));
  const lacking = new Set(needs.flatMap(({ setId }) => (withPorts.has(setId) ? [] : setId)));
  const { placements: complete, addresses } = await chooseAddressesOfPlacements(
    tx,
    placements.filter(({ setId }) => !lacking.has(setId)),
    requests,
    hosts,
  );
  const { chosen, cursors, isContended } = addresses;
  return { placements: complete, chosen: { chosen, cursors, hostPorts }, isContended };
}

/** Stores the addresses and host ports of the placed sets. Ignores those of other sets. */
export async function storeChosen(tx: UnitOfWork, chosen: ChosenForPlacements): Promise<void> {
  await Promise.all([storeAddresses(tx, chosen), insertHostPorts(tx, chosen.hostPorts)]);
}
