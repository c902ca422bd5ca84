import { afterAll, beforeAll, beforeEach, expect, it } from "vitest";
import { type RuledSets, silenceMs, startRuledSets } from "../support/network/ruled-sets.ts";

const { signal } = new AbortController();
let ruled: RuledSets;
let host: RuledSets["host"];
let client: RuledSets["client"];

beforeAll(async () => {
  ruled = await startRuledSets();
  ({ host, client } = ruled);
});
afterAll(() => ruled.close());
beforeEach(() => ruled.putRules());

it("denies new connections, and ends exactly the forbidden ones on request", async () => {
  const toDatabase = await client.connect("10.64.0.2");
  const toAdmin = await client.connect("10.64.0.3");
  for (const number of [2, 3]) expect(await ruled.ask(number, 9_100)).toBe(`set-${number}`);

  await ruled.putRules({ ...ruled.denyDatabase, protocol: "udp" });
  expect(await ruled.ask(2, 9_100)).toBe("set-2");
  expect(await ruled.ask(2, 9_101)).toBe("silence");
  expect(await ruled.ask(3, 9_101)).toBe("set-3");

  ruled.requestEnd();
  await ruled.putRules({ ...ruled.denyDatabase, protocol: "udp" });
  expect(await ruled.ask(2, 9_100)).toBe("silence");
  expect(await ruled.ask(3, 9_100)).toBe("set-3");
  expect(await toDatabase("after")).toBe("set-2:after");
  expect(await toAdmin("after")).toBe("set-3:after");

  ruled.requestEnd();
  await ruled.putRules({ ...ruled.denyDatabase, protocol: "tcp" });
  expect(await Promise.race([toDatabase("ended").catch(() => "silence"), silence()])).toBe(
    "silence",
  );
  expect(await toAdmin("ended")).toBe("set-3:ended");
});

it("ends connections later if the switch refuses, even after a restart of the driver", async () => {
  expect(await ruled.ask(2, 9_200)).toBe("set-2");
  expect(await ruled.ask(3, 9_200)).toBe("set-3");
  const endConnections = host.switchPort.endConnections.bind(host.switchPort);
  host.switchPort.endConnections = async () => {
    throw new Error("Open vSwitch has two datapaths.");
  };
  ruled.requestEnd();
  await ruled.putRules(ruled.denyDatabase);
  expect(await ruled.ask(2, 9_200)).toBe("set-2");
  expect(host.driver.status().isReady).toBe(true);
  host.switchPort.endConnections = endConnections;

  await host.restart();
  await host.driver.converge(signal);
  await host.driver.endConnections(signal);
  expect(await ruled.ask(2, 9_200)).toBe("silence");
  expect(await ruled.ask(3, 9_200)).toBe("set-3");

  // The request is done: a connection that a later change forbids survives another restart.
  await ruled.putRules();
  expect(await ruled.ask(2, 9_201)).toBe("set-2");
  await ruled.putRules(ruled.denyDatabase);
  await host.restart();
  await host.driver.converge(signal);
  await host.driver.endConnections(signal);
  expect(await ruled.ask(2, 9_201)).toBe("set-2");
});

it("has the same rules after a restart of the driver and a crash of the switch", async () => {
  await ruled.putRules(ruled.denyDatabase, {
    action: "deny",
    peer: { kind: "service", serviceId: ruled.admin },
  });
  const expectRules = async (port: number): Promise<void> => {
    expect(await ruled.ask(2, port)).toBe("silence");
    expect(await ruled.ask(3, port)).toBe("silence");
    const [, , other] = ruled.sets;
    expect(await other?.probe("udp", "10.64.0.1")).toBe("set-1:hello");
  };
  await expectRules(9_300);
  await host.restart();
  await expectRules(9_301);
  await host.driver.converge(signal);
  await expectRules(9_302);
  await host.ovs.killSwitch();
  await host.ovs.startSwitch();
  await host.driver.converge(signal);
  await host.driver.checkFlows(signal);
  await expectRules(9_303);
});

async function silence(): Promise<string> {
  await new Promise((resolve) => setTimeout(resolve, silenceMs));
  return "silence";
}
