import type { NetworkState } from "../../../src/contracts/network-driver/network-state.ts";
import { newId } from "../../../src/lib/ids.ts";

/** The members of a HostNetwork that most tests do not vary. */
export const networkBasics = {
  tenantId: "tnt_01jd0000000000000000000000",
  name: "default",
  rules: [],
  endConnectionsCount: 0,
  services: [],
};

/** A network state with one service in each network, whose sets have these addresses. */
export function serviceStateOf(
  version: number,
  networks: Record<string, string[]>,
  addresses = ["10.64.1.1"],
): NetworkState {
  const serviceOf = (members: string[]) => ({
    serviceId: newId("svc"),
    name: "web",
    addresses,
    members: members.map((address) => ({
      setId: newId("set"),
      addresses: [address],
      isEndpoint: true,
    })),
    ports: [],
  });
  return {
    source: "agent",
    version,
    tunnelAddress: null,
    networks: Object.entries(networks).map(([networkId, members], index) => ({
      ...networkBasics,
      networkId,
      vni: 1 + index,
      gateways: [],
      remotePorts: [],
      services: [serviceOf(members)],
    })),
  };
}
