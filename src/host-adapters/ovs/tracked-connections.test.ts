import { expect, it } from "vitest";
import { endTrackedConnections, readConnections } from "./tracked-connections.ts";

const dump = `tcp,orig=(src=10.64.0.1,dst=10.64.0.3,sport=37769,dport=80),reply=(src=10.64.0.3,dst=10.64.0.1,sport=80,dport=37769),zone=7,protoinfo=(state=ESTABLISHED)
udp,orig=(src=10.64.0.1,dst=10.64.1.1,sport=39284,dport=53),reply=(src=10.64.0.4,dst=10.64.0.1,sport=53,dport=39284),zone=7
icmpv6,orig=(src=fd00::1,dst=fd00::3,id=1,type=128,code=0),reply=(src=fd00::3,dst=fd00::1,id=1,type=129,code=0),zone=7
sctp,orig=(src=10.64.0.1,dst=10.64.0.3,sport=1,dport=2),reply=(src=10.64.0.3,dst=10.64.0.1,sport=2,dport=1),zone=7
tcp,orig=(src=10.64.0.2,dst=203.0.113.9,sport=5,dport=443),reply=(src=203.0.113.9,dst=198.19.0.7,sport=443,dport=5),zone=7
`;

it("reads the ends of connections after their translation", () => {
  expect(readConnections(dump)).toMatchObject([
    { protocol: "tcp", from: "10.64.0.1", to: "10.64.0.3", port: 80 },
    { protocol: "udp", from: "10.64.0.1", to: "10.64.0.4", original: "10.64.1.1", port: 53 },
    { protocol: "icmp", from: "fd00::1", to: "fd00::3", port: null },
    { protocol: "other", from: "10.64.0.1", to: "10.64.0.3", port: null },
    { protocol: "tcp", from: "10.64.0.2", to: "203.0.113.9", port: 443 },
  ]);
});

it("repeats until no selected connection is left, and gives up after a bounded number of passes", async () => {
  const calls: string[] = [];
  let dumps = 0;
  const run =
    (listsMax: number) =>
    async (command: string, ...args: string[]) => {
      if (command !== "dump-conntrack") calls.push([command, ...args].join(" "));
      else dumps += 1;
      return dumps <= listsMax ? dump : "";
    };
  const selected = { zone: 7, isSelected: ({ port }: { port: number | null }) => port === 443 };
  await endTrackedConnections(selected, run(2));
  const filter =
    "ct_nw_src=10.64.0.2,ct_nw_proto=6 ct_nw_src=203.0.113.9,ct_nw_proto=6,ct_tp_src=443";
  expect(calls).toEqual([`flush-conntrack ${filter}`, `flush-conntrack ${filter}`]);
  await expect(endTrackedConnections(selected, run(1_000))).rejects.toThrow("are left");
});
