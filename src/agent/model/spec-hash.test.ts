import { expect, it } from "vitest";
import { localSet } from "../../../test/support/agent/local-set.ts";
import { isContainerOutdated, specHash } from "./spec-hash.ts";

/** Hashes that agents of earlier releases have stored in the labels of running containers. */
const earlierHashes = {
  infra: "54e48ad7448fcde12de848a4ad9c509b",
  app: "c8e215b1b6fa655b1ecc8bb8823959a2",
};

const earlier = { ...localSet({ names: ["app"] }), setId: "set_0" };

it("an upgrade of the agent changes no hash of a running container", () => {
  const explicit = { ...localSet({ options: { stopSignal: "SIGTERM" } }), setId: "set_0" };
  for (const set of [earlier, explicit]) {
    expect(specHash(set, "app")).toBe(earlierHashes.app);
    expect(specHash(set, "infra")).toBe(earlierHashes.infra);
  }
});

it("changed hooks, and a container without which the set serves, restart nothing", () => {
  const [app, ...others] = earlier.template.containers;
  if (!app) throw new Error("the set has a container");
  const hooks = { preStop: { exec: { command: ["/bin/leave"] }, timeoutSeconds: 10 } };
  const options = { ...app.options, hooks, serving: "optional" as const };
  const containers = [{ ...app, options }, ...others];
  const changed = { ...earlier, template: { ...earlier.template, drainSeconds: 5, containers } };
  for (const container of ["infra", "app"])
    expect(specHash(changed, container)).toBe(specHash(earlier, container));
});

it("another attachment makes the infra container outdated", () => {
  const attachment = {
    networkId: "net_1",
    vni: 4_097,
    mtu: 1_450,
    interface: "eth0",
    mac: "0a:00:0a:40:00:09",
    addresses: ["10.64.0.9/16"],
    gateways: ["10.64.0.1"],
  };
  const attached = { ...earlier, attachments: [attachment] };
  const seen = { specHash: specHash(attached, "infra"), restartGeneration: 1 };
  expect(isContainerOutdated({ ...attached }, "infra", seen)).toBe(false);
  expect(isContainerOutdated(earlier, "infra", seen)).toBe(true);
  const changes = [{ mac: "0a:00:0a:40:00:0a" }, { vni: 4_098 }, { mtu: 9_000 }];
  for (const change of changes) {
    const changed = { ...earlier, attachments: [{ ...attachment, ...change }] };
    expect(isContainerOutdated(changed, "infra", seen)).toBe(true);
  }
});

it("a container without a source of its stop signal is never outdated by the source", () => {
  const seen = { specHash: earlierHashes.app, restartGeneration: 1 };
  expect(isContainerOutdated(earlier, "app", seen)).toBe(false);
  expect(isContainerOutdated(earlier, "app", { ...seen, stopSignalSource: "image" })).toBe(false);
  expect(isContainerOutdated(earlier, "app", { ...seen, stopSignalSource: "template" })).toBe(true);
  expect(isContainerOutdated(earlier, "app", { ...seen, restartGeneration: 0 })).toBe(true);
});
