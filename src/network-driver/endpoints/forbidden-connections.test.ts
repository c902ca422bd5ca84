import { expect, it } from "vitest";
import { networkBasics } from "../../../test/support/network/host-network.ts";
import { sampleRule } from "../../../test/support/network/rule-samples.ts";
import type { NetworkState } from "../../contracts/network-driver/network-state.ts";
import { silentLog } from "../../lib/log.ts";
import { SwitchError, type SwitchPort, type TrackedConnections } from "../ports/switch-port.ts";
import { ForbiddenConnections } from "./forbidden-connections.ts";
import { StoredNetworkState } from "./stored-network-state.ts";

const networkId = "net_01jd0000000000000000000001";
const serviceId = "svc_01jd0000000000000000000001";
const rules = [sampleRule(0, { direction: "ingress", action: "deny" })];
const remotePorts = [
  {
    mac: "0a:00:0a:40:09:09",
    addresses: ["10.64.9.9"],
    tunnelAddress: "172.31.0.1",
    trustedPorts: [{ serviceId, protocol: "tcp" as const, port: 8_080 }],
  },
  { mac: "0a:00:0a:40:00:03", addresses: ["10.64.0.3"], tunnelAddress: "172.31.0.2" },
];
const setId = "set_01jd0000000000000000000001";
const services = [
  {
    serviceId,
    name: "web",
    addresses: [],
    members: [{ setId, addresses: ["10.64.0.2"], isEndpoint: true }],
    ports: [],
  },
];
const network = {
  networkId,
  vni: 4097,
  ...networkBasics,
  gateways: [],
  remotePorts,
  rules,
  services,
};

function stateOf(version: number): NetworkState {
  const networks = [{ ...network, endConnectionsCount: version }];
  return { source: "agent", version, tunnelAddress: null, networks };
}

/** Returns the connections whose end a change of the rules has requested. */
async function endForbidden(faults = 0): Promise<TrackedConnections[]> {
  const store = { load: async () => ({ kind: "missing" as const }), save: async () => undefined };
  const networkState = new StoredNetworkState(store, { kind: "missing" });
  const ended: TrackedConnections[] = [];
  let calls = 0;
  const endConnections = async (connections: TrackedConnections) => {
    if (calls++ < faults) throw new SwitchError("the switch does not answer");
    ended.push(connections);
  };
  const switchPort = { endConnections } as Pick<SwitchPort, "endConnections"> as SwitchPort;
  const forbidden = new ForbiddenConnections({
    networkState,
    switchPort,
    uplink: undefined,
    log: silentLog,
  });
  for (const version of [0, 1]) networkState.accept(stateOf(version));
  forbidden.update(
    [{ ...network, conntrackZone: 7, gatewayZone: 8, endConnectionsCount: 1 }],
    [{ networkId, ofPort: 1, mac: "0a:00:0a:40:00:02", addresses: ["10.64.0.2"] }],
  );
  for (let pass = 0; pass <= faults; pass++) await forbidden.end(new AbortController().signal);
  return ended;
}

it("rules end no connection of a gateway on another host to a port that it publishes", async () => {
  const [ended] = await endForbidden();
  const isSelected = (from: string, port = 8_080, protocol: "tcp" | "udp" = "tcp") =>
    ended?.isSelected?.({ protocol, from, to: "10.64.0.2", port });
  expect(["10.64.9.9", "10.64.0.3", "203.0.113.9"].map((from) => isSelected(from))).toEqual([
    false,
    true,
    true,
  ]);
  expect(isSelected("10.64.9.9", 8_081)).toBe(true);
  expect(isSelected("10.64.9.9", 8_080, "udp")).toBe(true);
});

it("connections end in both zones of a gateway, even if all of them must end", async () => {
  expect((await endForbidden()).map(({ zone }) => zone)).toEqual([7, 8]);
  const all = await endForbidden(3);
  expect(all.map(({ zone, isSelected }) => [zone, isSelected])).toEqual([
    [7, undefined],
    [8, undefined],
  ]);
});
