import { expect, it } from "vitest";
import type { FleetNetwork } from "../../db/queries/networks/host-networks.ts";
import { silentLog } from "../../lib/log.ts";
import { GATEWAY_TARGETS_MAX } from "../../contracts/network-driver/network-state.ts";
import { toHostNetworks } from "./host-networks.ts";
import { resolveGateways } from "./resolve-gateways.ts";

const serviceId = "svc_01jd0000000000000000000001";
const publisher = {
  hostId: "host_1",
  mac: "0a:00:0a:40:09:09",
  addresses: ["10.64.9.9"],
  tunnelAddress: "172.31.0.1",
};
const published = [{ serviceId, name: "https", protocol: "tcp" as const, hostPort: 443 }];
const target = { serviceId, name: "https", protocol: "tcp" as const, port: 8_443 };

it("each set has the port of its revision, and hosts trust the gateway at all of these ports", () => {
  const exceptions = [
    { revision: 1, port: 8_080 },
    { revision: 2, port: null },
  ];
  const [gateway] = resolveGateways({
    publishers: [{ ...publisher, published }],
    targets: [{ ...target, exceptions }],
    revisedSets: [
      { serviceId, revision: 1, setIds: ["set_a", "set_b"] },
      { serviceId, revision: 2, setIds: ["set_c"] },
    ],
  });
  expect(gateway?.ports).toEqual([
    {
      serviceId,
      protocol: "tcp",
      hostPort: 443,
      port: 8443,
      exceptions: [
        {
          setId: "set_a",
          port: 8080,
        },
        {
          setId: "set_b",
          port: 8080,
        },
        {
          setId: "set_c",
          port: null,
        },
      ],
    },
  ]);
  expect(gateway?.trustedPorts).toEqual([
    { serviceId, protocol: "tcp", port: 8_443 },
    { serviceId, protocol: "tcp", port: 8_080 },
  ]);
});

it("a gateway whose ports lead nowhere is missing, so no host trusts it", () => {
  const more = { targets: [], revisedSets: [] };
  expect(resolveGateways({ publishers: [{ ...publisher, published }], ...more })).toEqual([]);
  expect(resolveGateways({ publishers: [{ ...publisher, published: [] }], ...more })).toEqual([]);
});

it("the ports of a gateway lead to a bounded number of sets in all of its networks", () => {
  const members = Array.from({ length: GATEWAY_TARGETS_MAX / 4 }, (_, index) => ({
    setId: `set_${index}`,
    addresses: ["10.64.0.1"],
    isEndpoint: true,
  }));
  const ports = [1, 2, 3].map((hostPort) => ({ ...published[0], hostPort }));
  const networkOf = (vni: number) => ({
    networkId: `net_${vni}`,
    tenantId: "tnt_1",
    name: "web",
    vni,
    gateways: [],
    ports: [],
    rulesKey: null,
    rules: [],
    rulesHash: "",
    endConnectionsCount: 0,
    revisedSets: [],
    publishers: [
      {
        ...publisher,
        published: ports,
      },
    ] as FleetNetwork["publishers"],
    targets: [
      {
        ...target,
        exceptions: [],
      },
    ],
    services: [
      {
        serviceId,
        name: "web",
        addresses: [],
        members,
        ports: [],
      },
    ],
  });
  const networks = [networkOf(1), networkOf(2)];
  const sent = toHostNetworks(networks, "host_1", silentLog, { knowsGateways: true });
  expect(sent.map(({ gateway }) => gateway?.ports.length)).toEqual([3, 1]);
  expect(toHostNetworks(networks, "host_1", silentLog)[0]?.gateway).toBeUndefined();
});
