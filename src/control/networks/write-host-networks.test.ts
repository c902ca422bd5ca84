import { expect, it } from "vitest";
import { hostNetworksSchema } from "../../contracts/agent-protocol/host-networks.ts";
import type { HostRule } from "../../contracts/network-driver/host-rule.ts";
import { newId } from "../../lib/ids.ts";
import { writeHostNetworks } from "./write-host-networks.ts";

const version = "0".repeat(32);

function ruleOf(number: number): HostRule {
  return {
    ruleId: newId("rule"),
    name: `rule-${number}`,
    priority: 1_000,
    direction: "ingress",
    action: "deny",
    protocol: "tcp",
    ports: [{ first: 80, last: 80 + number }],
    serviceId: newId("svc"),
    peer: { kind: "cidr", cidr: "10.0.0.0/8" },
  };
}

function networkOf(vni: number, rules: readonly HostRule[]) {
  return {
    networkId: newId("net"),
    tenantId: newId("tnt"),
    name: "web",
    vni,
    gateways: ["10.64.0.1"],
    rules,
    endConnectionsCount: 0,
    remotePorts: [
      { mac: "0a:00:0a:40:00:02", addresses: ["10.64.0.2"], tunnelAddress: "192.0.2.1" },
    ],
    services: [],
  };
}

it("writes what agents read", () => {
  const networks = [networkOf(1, [ruleOf(1), ruleOf(2)]), networkOf(2, [])];
  for (const answer of [
    { version, networks },
    { version, networks: [] },
    { version, networks: null },
  ])
    expect(hostNetworksSchema.parse(JSON.parse(writeHostNetworks(answer)))).toEqual(answer);
});

it("writes the rules of a network once for all its hosts", () => {
  let reads = 0;
  const counted = new Proxy([ruleOf(1)], {
    get(rules, key, receiver) {
      if (key === "0") reads += 1;
      return Reflect.get(rules, key, receiver) as unknown;
    },
  });
  for (let host = 0; host < 3; host++)
    writeHostNetworks({ version, networks: [networkOf(1, counted)] });
  expect(reads).toBe(1);
});
