import { expect, it } from "vitest";
import { localSet } from "../../../test/support/agent/local-set.ts";
import { newId } from "../../lib/ids.ts";
import { ATTACHMENTS_FEATURE, ownFeatures } from "./agent-features.ts";
import { readDesiredSets } from "./read-desired-sets.ts";

const attachment = {
  networkId: newId("net"),
  vni: 4_097,
  interface: "eth0",
  mac: "0a:00:0a:40:00:02",
  addresses: ["10.64.0.2/16"],
  gateways: ["10.64.0.1"],
};
const plain = { ...localSet(), desired: "running" };
const attached = { ...plain, setId: newId("set"), attachments: [attachment] };
const networks = [{ network: "default" }, { network: "db" }];
const named = { ...localSet({ template: { networks } }), desired: "running" };

it("does not let an agent that connects no sets start a set of a network on Docker's bridge", () => {
  const read = readDesiredSets([plain, attached, named], []);
  expect(read.sets).toEqual([plain]);
  const detail = "it does not connect sets to networks";
  expect(read.unsupported).toMatchObject([
    { setId: attached.setId, generation: 1, desired: "running", detail },
    { setId: named.setId, generation: 1, desired: "running", detail },
  ]);
  expect(readDesiredSets([{ ...attached, desired: "deleted" }], []).unsupported).toMatchObject([
    { setId: attached.setId, desired: "deleted" },
  ]);
});

it("reads the sets of networks for an agent that connects them", () => {
  const all = [plain, attached, named];
  expect(readDesiredSets(all, [ATTACHMENTS_FEATURE])).toMatchObject({ sets: all, unsupported: [] });
});

it("reads them for the agent of this build, which reports that it connects sets", () => {
  expect(ownFeatures).toContain(ATTACHMENTS_FEATURE);
  expect(readDesiredSets([attached])).toMatchObject({ sets: [attached], unsupported: [] });
});
