import { describe, expect, it } from "vitest";
import { type FlowFrame, interpretFlows } from "../../../test/support/ovs/flow-interpreter.ts";
import type { HostRule } from "../../contracts/network-driver/host-rule.ts";
import { compileFlows, type FlowNetwork, nameServerAddress } from "./compile-flows.ts";
import { type Datapath, GATEWAY_MAC } from "./flow.ts";

const uplinkPort = 90;
const gateway = "10.64.0.1";
const server = nameServerAddress("198.19.0.0");
const port = {
  ofPort: 2,
  networkId: "net_0",
  mac: "0a:00:0a:40:00:09",
  addresses: ["10.64.0.9", "fd00::9"],
};
const network: FlowNetwork = {
  networkId: "net_0",
  vni: 4097,
  conntrackZone: 7,
  gateways: [gateway, "fd00::1"],
  remotePorts: [],
};

function compile({
  hasUplink = true,
  datapath = "netdev",
  changes = {},
  ports = [port],
}: {
  hasUplink?: boolean;
  datapath?: Datapath;
  changes?: Partial<FlowNetwork>;
  ports?: (typeof port)[];
} = {}) {
  return interpretFlows(
    compileFlows({
      datapath,
      localPorts: ports,
      networks: [{ ...network, ...changes }],
      uplink: hasUplink ? { ofPort: uplinkPort, firstAddress: "198.19.0.0" } : undefined,
    }),
  );
}

function toGateway(protocol: "udp" | "tcp", tcpPort: number, to = gateway): FlowFrame {
  const fields = { in_port: "2", dl_src: port.mac, dl_dst: GATEWAY_MAC, nw_src: "10.64.0.9" };
  return {
    protocols: ["ip", protocol],
    fields: { ...fields, nw_dst: to, tp_dst: String(tcpPort) },
  };
}

const answer = (source: string): FlowFrame => ({
  protocols: ["ip", "udp"],
  fields: { in_port: String(uplinkPort), nw_src: source, nw_dst: "198.19.0.7", tp_src: "53" },
  connection: "est",
  translatedTo: "10.64.0.9",
});

describe.each(["netdev", "system"] as const)("in the datapath %s", (datapath) => {
  it.each(["udp", "tcp"] as const)("a %s query for the gateway reaches the name server", (kind) => {
    for (const connection of ["new", "est"] as const) {
      const { outputs, zonesCommitted } = compile({ datapath })({
        ...toGateway(kind, 53),
        connection,
      });
      expect(outputs).toMatchObject([{ port: String(uplinkPort), fields: { nw_dst: server } }]);
      if (connection === "new") {
        expect(outputs[0]?.fields["nw_src"]).toBe("198.19.0.7");
        expect(zonesCommitted).toEqual(["7"]);
      }
    }
  });

  it("its answer has the gateway as source, and that of another server has its own", () => {
    const receive = compile({ datapath });
    for (const [source, seen] of [
      [server, gateway],
      ["192.0.2.7", "192.0.2.7"],
    ] as const)
      expect(receive(answer(source)).outputs).toMatchObject([
        { port: "2", fields: { nw_src: seen, nw_dst: "10.64.0.9", dl_dst: port.mac } },
      ]);
  });
});

it("other packets for the gateway are dropped, and queries for other servers are unchanged", () => {
  const send = compile();
  for (const tcpPort of [22, 54, 5353]) expect(send(toGateway("tcp", tcpPort)).outputs).toEqual([]);
  expect(send(toGateway("udp", 53, "192.0.2.7")).outputs).toMatchObject([
    { port: String(uplinkPort), fields: { nw_dst: "192.0.2.7" } },
  ]);
});

const denyAll: HostRule = {
  ruleId: "rule_0",
  name: "deny",
  priority: 9_999,
  direction: "egress",
  action: "deny",
  protocol: "any",
  ports: [],
  serviceId: null,
  peer: { kind: "any" },
};

it("a query passes even if a rule denies all, and unless the rules are unknown", () => {
  const send = compile({ changes: { rules: [denyAll] } });
  expect(send(toGateway("udp", 53)).outputs).toHaveLength(1);
  expect(send(toGateway("udp", 53, "192.0.2.7")).outputs).toEqual([]);
  expect(compile({ changes: { deniesNew: true } })(toGateway("udp", 53)).outputs).toEqual([]);
});

it("no rule permits a packet with the address of the name server that leads to another set", () => {
  const other = { ...port, ofPort: 3, mac: "0a:00:0a:40:00:0a", addresses: ["10.64.0.10"] };
  const query = toGateway("udp", 53, server);
  const misled = { ...query, fields: { ...query.fields, dl_dst: other.mac } };
  expect(compile({ ports: [port, other] })(misled).outputs).toMatchObject([{ port: "3" }]);
  const denied = compile({ ports: [port, other], changes: { rules: [denyAll] } });
  expect(denied(misled).outputs).toEqual([]);
});

it("a query leads nowhere without an uplink or an IPv4 gateway", () => {
  const query = toGateway("udp", 53);
  for (const send of [
    compile({ hasUplink: false }),
    compile({ changes: { gateways: ["fd00::1"] } }),
  ])
    expect(send(query).outputs.filter(({ fields }) => fields["nw_dst"] === server)).toEqual([]);
});

describe("a set of a network without an IPv4 subnet", () => {
  const own = { ...port, mac: "0a:06:00:00:00:09", addresses: ["240.0.0.9", "fd00::9"] };
  const other = { ...own, ofPort: 3, mac: "0a:06:00:00:00:0a", addresses: ["240.0.0.10"] };
  const send = compile({ ports: [own, other], changes: { gateways: ["fd00::1"] } });
  const packet = (protocol: "udp" | "tcp", to: string, tcpPort = 53, mac = GATEWAY_MAC) => {
    const fields = { in_port: "2", dl_src: own.mac, dl_dst: mac, nw_src: "240.0.0.9" };
    return { protocols: ["ip", protocol], fields: { ...fields, nw_dst: to, tp_dst: `${tcpPort}` } };
  };

  it.each(["udp", "tcp"] as const)("sends %s queries to the name server", (protocol) => {
    const query = { ...packet(protocol, "240.0.0.1"), connection: "new" as const };
    expect(send(query).outputs).toMatchObject([
      { port: String(uplinkPort), fields: { nw_dst: server, nw_src: "198.19.0.7" } },
    ]);
    const received = send({ ...answer(server), translatedTo: "240.0.0.9" });
    expect(received.outputs).toMatchObject([
      { port: "2", fields: { nw_src: "240.0.0.1", nw_dst: "240.0.0.9", dl_dst: own.mac } },
    ]);
  });

  it("sends no other packet over IPv4", () => {
    const packets = [
      packet("tcp", "240.0.0.1", 80),
      packet("udp", "192.0.2.7"),
      packet("udp", "240.0.0.10", 53, other.mac),
      packet("udp", server),
      { ...packet("udp", "240.0.0.1"), protocols: ["ip", "icmp"] },
    ];
    for (const each of packets) expect(send(each).outputs).toEqual([]);
  });
});
