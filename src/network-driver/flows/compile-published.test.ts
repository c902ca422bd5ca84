import { expect, it } from "vitest";
import { renderFlow } from "./flow.ts";
import type { PublishedPort } from "../../contracts/network-driver/published-ports.ts";
import { compilePublished } from "./compile-published.ts";

const network = { vni: 4097, conntrackZone: 7 };

function compile(...ports: [address: string, published: PublishedPort[]][]) {
  return compilePublished(
    network,
    ports.map(([address, publishedPorts], at) => ({
      ofPort: at + 1,
      mac: `0a:00:0a:40:00:0${at}`,
      addresses: ["fd00::9", address],
      publishedPorts,
    })),
    "198.19.0.7",
  ).map(renderFlow);
}

it("a connection gets the set's address for the rules, and its translation at the output", () => {
  expect(compile(["10.64.0.9", [{ protocol: "udp", hostPort: 53, port: 5_353 }]])).toEqual([
    "cookie=0x1001,table=10,priority=120,udp,ct_state=+trk+new,reg0=4097,nw_dst=198.19.0.7,tp_dst=53,actions=set_field:53->reg11,set_field:1->reg10,set_field:0a:07:00:00:00:01->eth_src,set_field:0a:00:0a:40:00:00->eth_dst,set_field:10.64.0.9->nw_dst,set_field:5353->udp_dst,resubmit(,3)",
    "cookie=0x1001,table=5,priority=120,udp,ct_state=+trk+new,reg0=4097,reg11=53,actions=set_field:198.19.0.7->nw_dst,set_field:53->udp_dst,ct(commit,zone=7,nat(dst=10.64.0.9:5353)),output:NXM_NX_REG2[]",
    "cookie=0x1001,table=10,priority=120,udp,ct_state=+trk+new,reg0=4097,nw_dst=10.64.0.9,tp_dst=5353,actions=set_field:0a:07:00:00:00:01->eth_src,set_field:0a:00:0a:40:00:00->eth_dst,output:1",
  ]);
});

it("only the first set has a port of the host, and a set without IPv4 address has none", () => {
  const http: PublishedPort = { protocol: "tcp", hostPort: 80, port: 8_080 };
  const flows = compile(["fd00::8", [http]], ["10.64.0.9", [http]], ["10.64.0.10", [http]]);
  expect(flows).toHaveLength(3);
  expect(flows.join()).not.toContain("10.64.0.10");
});
