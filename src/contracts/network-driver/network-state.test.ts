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
