import { expect, it } from "vitest";
import { diffFlows } from "./diff-flows.ts";

const arp = "cookie=0x1,table=0,priority=7,arp,in_port=1,actions=drop";
const miss = "cookie=0x0,table=0,priority=0,actions=drop";

it("deletes what is missing and adds what is new, and nothing for equal flows", () => {
  expect(diffFlows([arp, miss], [miss, arp])).toEqual([]);
  expect(diffFlows([arp], [miss])).toEqual([
    "flow delete_strict table=0,priority=7,arp,in_port=1",
    `flow add ${miss}`,
  ]);
  expect(diffFlows([miss], [])).toEqual(["flow delete_strict table=0,priority=0"]);
});

it("replaces a flow with other actions or another cookie in place", () => {
  for (const changed of [arp.replace("drop", "flood"), arp.replace("0x1", "0x2")])
    expect(diffFlows([arp, miss], [changed, miss])).toEqual([`flow add ${changed}`]);
});
