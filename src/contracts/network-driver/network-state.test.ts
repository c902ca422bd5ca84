import { expect, it } from "vitest";
import { sampleRule } from "../../../test/support/network/rule-samples.ts";
import { RULES_PER_HOST_MAX } from "./host-rule.ts";
import { networkStateSchema, storedNetworkStateSchema } from "./network-state.ts";

const network = {
  networkId: "net_01jd0000000000000000000000",
  tenantId: "tnt_01jd0000000000000000000000",
  name: "default",
  vni: 4097,
  gateways: [],
  remotePorts: [],
  services: [],
  endConnectionsCount: 3,
};
const stateWith = (changes: object) => ({
  source: "agent",
  version: 1,
  tunnelAddress: null,
  networks: [{ ...network, ...changes }],
});

it("a stored state without rules and counter loads", () => {
  const { endConnectionsCount: _, ...earlier } = network;
  const { networks } = storedNetworkStateSchema.parse({
    ...stateWith({}),
    networks: [{ ...earlier, rules: [] }],
  });
  expect(networks).toMatchObject([{ rules: [], endConnectionsCount: 0, hasUnknownRules: false }]);
});

it("a stored state with known rules loads with them", () => {
  const rules = [sampleRule(1)];
  const { networks } = storedNetworkStateSchema.parse(stateWith({ rules }));
  expect(networks).toMatchObject([{ rules, endConnectionsCount: 3, hasUnknownRules: false }]);
});

it.each([{ later: 1 }, { action: "log" }, { peer: { kind: "group" } }])(
  "a stored network with a rule that has %j loads without rules, and is marked",
  (changes) => {
    const rules = [sampleRule(1), { ...sampleRule(2), ...changes }];
    const loaded = storedNetworkStateSchema.parse(stateWith({ rules }));
    expect(loaded.networks).toMatchObject([{ rules: [], hasUnknownRules: true }]);
    // The mark survives another storage of the loaded state.
    expect(storedNetworkStateSchema.parse(loaded)).toEqual(loaded);
    expect(networkStateSchema.safeParse(stateWith({ rules })).success).toBe(false);
  },
);

it("a state has a bounded number of rules in all networks", () => {
  const rules = Array.from({ length: RULES_PER_HOST_MAX }, (_, index) => sampleRule(index));
  const state = stateWith({ rules });
  expect(networkStateSchema.safeParse(state).success).toBe(true);
  const networkId = "net_01jd0000000000000000000001";
  const other = { ...network, networkId, vni: 4098, rules: [sampleRule(1)] };
  const both = { ...state, networks: [...state.networks, other] };
  expect(networkStateSchema.safeParse(both).success).toBe(false);
});

it("a driver ignores members of a later release, except in rules", () => {
  const serviceId = "svc_01jd0000000000000000000001";
  const later = { later: 1 };
  const address = "10.64.0.9";
  const members = [
    { setId: "set_01jd0000000000000000000001", addresses: [address], isEndpoint: true },
  ];
  const services = [{ serviceId, name: "web", addresses: [], members, ports: [] }];
  const trustedPorts = [{ serviceId, protocol: "tcp", port: 80 }];
  const remote = { mac: "0a:00:0a:40:00:09", addresses: [address], tunnelAddress: "172.31.0.1" };
  const ports = [{ serviceId, protocol: "tcp", hostPort: 443, port: 80 }];
  const known = {
    rules: [],
    services,
    remotePorts: [{ ...remote, trustedPorts }],
    gateway: { address, ports },
  };
  const changed = {
    ...later,
    rules: [],
    services: services.map((service) => ({
      ...service,
      ...later,
      members: members.map((each) => ({
        ...each,
        ...later,
      })),
      ports: [],
    })),
    remotePorts: [
      { ...remote, ...later, trustedPorts: trustedPorts.map((each) => ({ ...each, ...later })) },
    ],
    gateway: { address, ...later, ports: ports.map((each) => ({ ...each, ...later })) },
  };
  const parsed = networkStateSchema.parse({ ...stateWith(changed), ...later });
  expect(parsed).toEqual(stateWith(known));
  const rules = [{ ...sampleRule(1), ...later }];
  expect(networkStateSchema.safeParse(stateWith({ rules })).success).toBe(false);
});
