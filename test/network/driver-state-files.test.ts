import { readFile, rm, writeFile } from "node:fs/promises";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { newId } from "../../src/lib/ids.ts";
import { startSwitchDriver, stateOf, type SwitchDriver } from "../support/network/switch-driver.ts";

const { signal } = new AbortController();
let host: SwitchDriver;
beforeEach(async () => {
  host = await startSwitchDriver();
});
afterEach(() => host.close());

async function readJson(file: string): Promise<Record<string, unknown>> {
  return JSON.parse(await readFile(file, "utf8")) as Record<string, unknown>;
}

describe("a network state that the driver cannot read", () => {
  it("leaves the flows as they are until the agent sends its state, over restarts", async () => {
    await host.runContainer("10.64.0.9/16");
    await host.put(stateOf(host, 1));
    const flows = await host.countFlows();
    await writeFile(host.files.networkState, '{"version":1,"networks":[');
    for (let start = 1; start <= 2; start++) {
      await host.restart();
      await expect(host.driver.converge(signal)).rejects.toThrow("network state is unreadable");
      await expect(host.driver.checkFlows(signal)).rejects.toThrow("network state is unreadable");
      expect(await host.countFlows()).toBe(flows);
      expect(await host.ofctl("dump-flows")).toContain("192.0.2.9");
      expect(host.driver.status()).toMatchObject({ isReady: false, networkStateVersion: null });
    }
    const { id } = await host.createEndpoint("10.64.0.10/16");
    expect((await host.join(id)).Err).toContain("network state is unreadable");
    expect(await host.put(stateOf(host, 1))).toMatchObject({ body: { isApplied: true } });
    expect(await host.join(id)).not.toHaveProperty("Err");
    await host.driver.converge(signal);
    await host.driver.checkFlows(signal);
    expect(host.driver.status()).toMatchObject({ isReady: true, networkStateVersion: 1 });
  });
});

describe("after a rollback from a later release", () => {
  it("a network with unknown rules gets no new connections, and other members are ignored", async () => {
    await host.runContainer("10.64.0.9/16");
    const state = stateOf(host, 1);
    await host.put(state);
    const remotePorts = state.networks[0]?.remotePorts.map((port) => ({ ...port, later: 1 }));
    const later = stateOf(host, 2, { remotePorts, rules: [{ deny: "all" }], later: {} });
    await writeFile(host.files.networkState, JSON.stringify({ ...later, later: true }));
    await host.restart();
    await host.driver.converge(signal);
    const flows = await host.ofctl("dump-flows");
    expect(flows).toContain("192.0.2.9");
    expect(flows).not.toMatch(/ct_state=\+new\+trk,reg0=0x1001/);
    await host.driver.checkFlows(signal);
    expect(host.driver.status()).toMatchObject({
      isReady: false,
      reason: expect.stringContaining(`rules for ${host.networkId} that this release`),
      networkStateVersion: 2,
    });
    await host.put(stateOf(host, 3));
    expect(await host.ofctl("dump-flows")).toMatch(/ct_state=\+new\+trk,reg0=0x1001/);
    expect(host.driver.status()).toMatchObject({ isReady: true });
  });

  it("the records remain, without members that this release does not know", async () => {
    const id = await host.runContainer("10.64.0.9/16");
    const records = await readJson(host.files.records);
    const endpoints = records["endpoints"] as Record<string, object>;
    const later = {
      ...records,
      version: 2,
      later: 1,
      endpoints: { [id]: { ...endpoints[id], later: 1 } },
    };
    await writeFile(host.files.records, JSON.stringify(later));
    await host.restart();
    expect(host.driver.status()).toMatchObject({ networks: 1, endpoints: 1 });
  });
});

describe("the records", () => {
  it("get nothing that their file would refuse", async () => {
    const { Err } = await host.createEndpoint("10.64.0.9/16", { "berth.host": "rack 7" });
    expect(Err).toContain("`Options.berth.host`: expected printable ASCII without spaces");
    const EndpointID = "e".repeat(64);
    const Interface = { MacAddress: "0a:00:0a:40:00:09" };
    expect(await host.call("CreateEndpoint", { EndpointID, Interface })).toEqual({
      Err: "The endpoint has no address. Specify one with --ip or --ip6.",
    });
    expect(host.driver.status().endpoints).toBe(0);
  });

  it("change no flow after their loss until the driver has compared the ports", async () => {
    await host.runContainer("10.64.0.9/16");
    await rm(host.files.records);
    await host.restart();
    host.faults.beforeListLinks = () => Promise.reject(new Error("the kernel is busy"));
    await expect(host.driver.converge(signal)).rejects.toThrow("the kernel is busy");
    await expect(host.driver.checkFlows(signal)).rejects.toThrow("records are missing");
    expect(await host.ofctl("dump-flows")).toContain("nw_src=10.64.0.9 ");
    host.faults.beforeListLinks = async () => undefined;
    await host.driver.converge(signal);
    expect(await host.ofctl("dump-flows")).toContain("nw_src=10.64.0.9 ");
    await host.driver.checkFlows(signal);
    expect(host.driver.status()).toMatchObject({ isReady: true, endpoints: 1 });
  });

  it("have the conntrack zones, so that no network gets the connections of another", async () => {
    const at = (vni: number) => ({ ...stateOf(host, 1).networks[0], networkId: newId("net"), vni });
    // Both VNIs derive the same zone.
    const [first, second] = [at(4_098), at(4_098 + 65_534)];
    const put = (version: number, networks: readonly object[]) =>
      host.put({ ...stateOf(host, version), networks });
    await put(1, [second]);
    await put(2, [first, second]);
    /** The zones by the VNI of their network, as the flows have them. */
    const readZones = async () => {
      const flows = (await host.ofctl("dump-flows")).split("\n");
      const zones = flows.flatMap((flow) => {
        const vni = /cookie=(0x\w+)/.exec(flow)?.[1];
        const zone = /(0x\w+)->(?:reg1|NXM_NX_REG1\[\])/.exec(flow)?.[1];
        return vni === undefined || zone === undefined ? [] : [[vni, zone] as const];
      });
      return Object.fromEntries(zones);
    };
    const zones = await readZones();
    expect(zones).toEqual({ "0x11000": "0x1003", "0x1002": "0x1004" });
    await host.restart();
    await host.driver.converge(signal);
    expect(await readZones()).toEqual(zones);
    // The zone of a network that leaves is free after its connections are removed.
    await put(3, [first]);
    expect(await readJson(host.files.records)).toMatchObject({ zones: { 4098: 0x1004 } });
  });

  it("lose only invalid entries, of which a copy remains", async () => {
    const [valid, invalid] = [
      await host.runContainer("10.64.0.8/16"),
      (await host.createEndpoint("10.64.0.9/16")).id,
    ];
    const text = await readFile(host.files.records, "utf8");
    const broken = text.replace("10.64.0.9/16", "10.64.0.9");
    await writeFile(host.files.records, broken);
    await host.restart();
    expect(host.driver.status()).toMatchObject({ networks: 1, endpoints: 1 });
    await host.driver.converge(signal);
    expect(await readFile(`${host.files.records}.invalid`, "utf8")).toBe(broken);
    await host.createEndpoint("10.64.0.10/16");
    const records = await readFile(host.files.records, "utf8");
    expect([records.includes(valid), records.includes(invalid)]).toEqual([true, false]);
  });
});

it("a network state of a new source replaces one with a higher version", async () => {
  await host.put(stateOf(host, 9));
  expect((await host.put(stateOf(host, 8))).status).toBe(409);
  const next = { ...stateOf(host, 1, { remotePorts: [] }), source: "of-a-new-agent" };
  expect(await host.put(next)).toMatchObject({ status: 200, body: { version: 1 } });
  expect(await host.ofctl("dump-flows")).not.toContain("192.0.2.9");
  await host.restart();
  expect(host.driver.status()).toMatchObject({ networkStateVersion: 1 });
  expect((await host.put({ ...next, version: 0 })).status).toBe(409);
  const { source: _, ...without } = next;
  expect((await host.put(without)).status).toBe(422);
});
