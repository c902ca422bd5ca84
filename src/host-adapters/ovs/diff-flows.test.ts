import fc from "fast-check";
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

it("turns any flows into any others", () => {
  const flowsArbitrary = fc
    .uniqueArray(fc.tuple(fc.integer({ min: 0, max: 9 }), fc.constantFrom("drop", "flood")), {
      selector: ([port]) => port,
    })
    .map((flows) => flows.map(([port, action]) => `cookie=0x1,in_port=${port},actions=${action}`));
  fc.assert(
    fc.property(flowsArbitrary, flowsArbitrary, (before, after) => {
      const flows = new Set(before);
      const ofMatch = (match: string) => before.find((line) => line.includes(`,${match},`)) ?? "";
      for (const change of diffFlows(before, after)) {
        const [, deleted] = /^flow delete_strict (.*)$/.exec(change) ?? [];
        const [, added, match = ""] = /^flow add (cookie=0x1,(.*),actions=.*)$/.exec(change) ?? [];
        flows.delete(ofMatch(deleted ?? match));
        if (added !== undefined) flows.add(added);
      }
      expect([...flows].toSorted()).toEqual(after.toSorted());
      const changed = after.filter((line) => !before.includes(line)).length;
      const missing = before.filter((line) => !after.includes(line)).length;
      expect(diffFlows(before, after).length).toBeLessThanOrEqual(changed + missing);
    }),
  );
});
