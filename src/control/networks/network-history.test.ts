import fc from "fast-check";
import { expect, it } from "vitest";
import { sampleRule } from "../../../test/support/network/rule-samples.ts";
import {
  applyNetworkChanges,
  countNetwork,
  NETWORK_STEPS_MAX,
} from "../../contracts/agent-protocol/network-changes.ts";
import type { HostNetwork } from "../../contracts/network-driver/network-state.ts";
import type { NetworkPort } from "../../db/queries/networks/host-networks.ts";
import { assert } from "../../lib/assert.ts";
import { silentLog } from "../../lib/log.ts";
import { toHostNetworks } from "./host-networks.ts";
import { NetworkHistory } from "./network-history.ts";
import type { NetworkWithRules } from "./read-fleet-network.ts";

const NETWORK_ID = "net_01jd0000000000000000000000";
const hostIds = ["host_a", "host_b", "host_c"];
const idOf = (prefix: string, number: number) => `${prefix}_01jd00000000000000000000a${number}`;
const versionOf = (number: number) => String(number).padStart(32, "0");

/** One set or none for each number, with everything that can change about it. */
const setsArbitrary = fc.array(
  fc.option(
    fc.record({
      hostId: fc.constantFrom(...hostIds),
      tunnelAddress: fc.constantFrom("192.0.2.1", "192.0.2.2", null),
      hasSecond: fc.boolean(),
      service: fc.constantFrom(0, 1, 2),
      isEndpoint: fc.boolean(),
    }),
    { freq: 4 },
  ),
  { minLength: 5, maxLength: 5 },
);
const networkArbitrary = fc
  .record({
    name: fc.constantFrom("default", "other"),
    endConnectionsCount: fc.nat(2),
    rules: fc.uniqueArray(fc.nat(5), { maxLength: 4 }),
    priority: fc.constantFrom(1, 2),
    hasAddress: fc.boolean(),
    sets: setsArbitrary,
  })
  .map((drawn): NetworkWithRules => {
    const sets = drawn.sets.flatMap((set, number) => {
      const addresses = [
        `10.64.0.${number + 2}`,
        ...(set?.hasSecond ? [`fd00::${number + 2}`] : []),
      ];
      return set ? [{ ...set, mac: `0a:00:0a:40:00:0${number + 2}`, number, addresses }] : [];
    });
    const rules = drawn.rules.map((number) => sampleRule(number, { priority: drawn.priority }));
    return {
      networkId: NETWORK_ID,
      tenantId: "tnt_01jd0000000000000000000000",
      name: drawn.name,
      vni: 1,
      gateways: ["10.64.0.1"],
      endConnectionsCount: drawn.endConnectionsCount,
      rulesKey: null,
      publishers: [],
      targets: [],
      revisedSets: [],
      rules,
      rulesHash: JSON.stringify(rules),
      ports: sets.map(({ hostId, mac, addresses, tunnelAddress }): NetworkPort => {
        return { hostId, mac, addresses, tunnelAddress };
      }),
      services: [0, 1, 2].flatMap((service) => {
        const members = sets.filter((set) => set.service === service);
        if (members.length === 0) return [];
        return [
          {
            serviceId: idOf("svc", service),
            name: `service-${service}`,
            addresses: drawn.hasAddress ? ["10.64.9.9"] : [],
            ports: [],
            members: members.map(({ number, addresses, isEndpoint }) => ({
              setId: idOf("set", number),
              addresses,
              isEndpoint,
            })),
          },
        ];
      }),
    };
  });

function getLast<T>(items: readonly T[]): T {
  const last = items.at(-1);
  assert(last, "the list is not empty");
  return last;
}

const inOrder = (network: HostNetwork | undefined) => ({
  ...network,
  rules: network?.rules.toSorted((a, b) => a.ruleId.localeCompare(b.ruleId)),
  remotePorts: network?.remotePorts.toSorted((a, b) => a.mac.localeCompare(b.mac)),
});
const forHost = (network: NetworkWithRules, hostId: string) =>
  toHostNetworks([network], hostId, silentLog)[0] as HostNetwork;
const noteAll = (networks: readonly NetworkWithRules[], charactersMax: number) => {
  const history = new NetworkHistory();
  for (const [place, network] of networks.entries())
    history.note(versionOf(place - 1), networks[place - 1], network, charactersMax);
  return history;
};

it("steps lead each host from each version to the network that it gets whole", () => {
  const chain = fc.array(networkArbitrary, { minLength: 2, maxLength: 5 });
  fc.assert(
    fc.property(chain, fc.constantFrom(...hostIds), (networks, hostId) => {
      const wholes = networks.map((network) => forHost(network, hostId));
      const history = noteAll(networks, Infinity);
      const last = networks.length - 1;
      const expected = getLast(wholes);
      for (const [place, whole] of wholes.slice(0, -1).entries()) {
        const change = {
          networkId: NETWORK_ID,
          version: versionOf(last),
          from: versionOf(place),
          steps: history.listSteps(versionOf(place), hostId),
          counts: countNetwork(expected),
        };
        const before = [{ version: versionOf(place), network: whole }];
        const after = applyNetworkChanges(before, {
          networks: [],
          changes: [JSON.parse(JSON.stringify(change))],
        });
        expect(inOrder(after?.[0]?.network)).toEqual(inOrder(expected));
      }
    }),
    { numRuns: 300 },
  );
});

const sample = getLast(fc.sample(networkArbitrary, { numRuns: 1, seed: 1 }));
const withRules = (count: number): NetworkWithRules => ({
  ...sample,
  rules: Array.from({ length: count }, (_, number) => sampleRule(number)),
  rulesHash: String(count),
});

it("remembers at most 32 steps, and no more text than its limit", () => {
  const networks = Array.from({ length: 40 }, (_, count) => withRules(count));
  const history = noteAll(networks, Infinity);
  expect(history.has(versionOf(39 - NETWORK_STEPS_MAX))).toBe(true);
  expect(history.has(versionOf(38 - NETWORK_STEPS_MAX))).toBe(false);
  const stepCharacters = history.lastCharacters ?? 0;
  const short = noteAll(networks, 3.5 * stepCharacters);
  expect(short.has(versionOf(36))).toBe(true);
  expect(short.has(versionOf(35))).toBe(false);
});

it("forgets the steps of a network that is deleted, created again or ambiguous", () => {
  const [one, two] = [withRules(1), withRules(2)];
  const port = { hostId: "host_a", mac: "0a:00:00:00:00:02", addresses: ["10.64.0.2"] };
  const ports = [0, 1].map(() => ({ ...port, tunnelAddress: "192.0.2.1" }));
  for (const [before, after] of [
    [one, undefined],
    [undefined, two],
    [one, { ...two, vni: 2 }],
    [one, { ...two, ports }],
  ] as const) {
    const history = noteAll([withRules(0), one], Infinity);
    history.note(versionOf(1), before, after, Infinity);
    expect([versionOf(0), versionOf(1)].map((version) => history.has(version))).toEqual([
      false,
      false,
    ]);
  }
});

it("a network that has changed back has only the steps after its last change", () => {
  const [one, two] = [withRules(1), withRules(2)];
  const history = new NetworkHistory();
  history.note("a", one, two, Infinity);
  history.note("b", two, one, Infinity);
  history.note("a", one, two, Infinity);
  expect(history.listSteps("a", "host_a")).toHaveLength(1);
  expect(history.listSteps("b", "host_a")).toHaveLength(2);
});

it("hosts share the step of a change that concerns none of their ports", () => {
  const history = noteAll([withRules(1), withRules(2)], Infinity);
  const [step] = history.listSteps(versionOf(0), "host_a");
  expect(history.listSteps(versionOf(0), "host_b")[0]).toBe(step);
  expect(step?.rules.put).toHaveLength(1);
});

it("refuses changes that do not lead to the counted items", () => {
  const history = noteAll([withRules(1), withRules(2)], Infinity);
  const network = forHost(withRules(1), "host_a");
  const before = [{ version: versionOf(0), network }];
  const change = {
    networkId: NETWORK_ID,
    version: versionOf(1),
    from: versionOf(0),
    steps: history.listSteps(versionOf(0), "host_a"),
    counts: countNetwork(forHost(withRules(2), "host_a")),
  };
  const apply = (changed: object) =>
    applyNetworkChanges(before, { networks: [], changes: [{ ...change, ...changed }] });
  expect(apply({})).toHaveLength(1);
  expect(apply({ counts: { ...change.counts, rules: 1 } })).toBeUndefined();
  expect(apply({ from: versionOf(7) })).toBeUndefined();
  expect(apply({ from: null })).toBeUndefined();
  expect(apply({ later: true })).toBeUndefined();
});
