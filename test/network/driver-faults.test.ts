import { readFile, rm } from "node:fs/promises";
import { setTimeout as delay } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { startDriverChecks } from "../../src/main/compose/driver-checks.ts";
import { LinkError } from "../../src/network-driver/ports/link-port.ts";
import { startSwitchDriver, stateOf, type SwitchDriver } from "../support/network/switch-driver.ts";
import { waitUntil } from "../support/wait-until.ts";

const { signal } = new AbortController();
let host: SwitchDriver;
beforeEach(async () => {
  host = await startSwitchDriver();
});
afterEach(() => host.close());

describe("a convergence whose corrections fail", () => {
  it("applies lost flows while the disk is full, and stores the removal later", async () => {
    await host.runContainer("10.64.0.8/16");
    const ended = await host.runContainer("10.64.0.9/16");
    host.faults.isDiskFull = true;
    expect(await host.call("DeleteEndpoint", { EndpointID: ended })).toEqual({});
    await host.ofctl("del-flows");
    await expect(host.driver.converge(signal)).rejects.toThrow("ENOSPC");
    expect(await host.countFlows()).toBe(host.driver.status().flows);
    expect(await host.ofctl("dump-flows")).toContain("nw_src=10.64.0.8 ");
    expect(host.driver.status()).toMatchObject({
      isReady: false,
      reason: expect.stringContaining("ENOSPC"),
    });
    host.faults.isDiskFull = false;
    await host.driver.converge(signal);
    expect(await readFile(host.files.records, "utf8")).not.toContain(ended);
  });

  it("corrects the other endpoints, and applies their flows", async () => {
    const ids = [await host.runContainer("10.64.0.8/16"), await host.runContainer("10.64.0.9/16")];
    const ends = ids.map((id) => host.names.nameEnds(id).hostEnd);
    for (const end of ends) await host.vsctl("del-port", host.bridge, end);
    await host.ofctl("del-flows");
    host.faults.beforeAddPort = async (name) => {
      if (name === ends[0]) throw new Error("Open vSwitch cannot open it.");
    };
    await expect(host.driver.converge(signal)).rejects.toThrow("cannot open it");
    const flows = await host.ofctl("dump-flows");
    expect(flows).toContain("nw_src=10.64.0.9 ");
    expect(flows).not.toContain("nw_src=10.64.0.8 ");
  });

  it("rebuilds lost records while the disk is full, and stores them later", async () => {
    await host.runContainer("10.64.0.9/16");
    await rm(host.files.records);
    host.faults.isDiskFull = true;
    await host.restart();
    await host.ofctl("del-flows");
    await expect(host.driver.converge(signal)).rejects.toThrow("ENOSPC");
    expect(await host.ofctl("dump-flows")).toContain("nw_src=10.64.0.9 ");
    host.faults.isDiskFull = false;
    await host.driver.converge(signal);
    expect(JSON.parse(await readFile(host.files.records, "utf8"))).toMatchObject({
      networks: { [host.dockerNetwork]: { networkId: host.networkId } },
    });
  });

  it.each(["fails", "does not end"])("delays no repair of the flows if it %s", async (how) => {
    const id = await host.runContainer("10.64.0.9/16");
    await host.vsctl("del-port", host.bridge, host.names.nameEnds(id).hostEnd);
    await host.driver.checkFlows(signal);
    let corrections = 0;
    let release: () => void = () => undefined;
    const released = new Promise<void>((resolve) => {
      release = resolve;
    });
    host.faults.beforeAddPort = async () => {
      corrections += 1;
      if (how === "does not end") await released;
      throw new Error("no");
    };
    const stopping = new AbortController();
    const options = { isConverged: false, signal: stopping.signal, onError: () => undefined };
    const checks = startDriverChecks(host.driver, { ...options, pauseMs: 20 });
    await waitUntil("a correction begins", () => corrections > 0);
    await host.ofctl("del-flows");
    await expect.poll(() => host.countFlows()).toBeGreaterThan(0);
    stopping.abort();
    release();
    await checks.stop();
  });
});

it("a changed packet filter is corrected by the next convergence, and not after 30 s", async () => {
  await host.driver.converge(signal);
  await host.driver.checkFilter(signal);
  expect(host.driver.wantsConvergence).toBe(false);
  host.faults.isFilterChanged = true;
  await host.driver.checkFilter(signal);
  expect(host.driver.wantsConvergence).toBe(true);
  host.faults.isFilterChanged = false;
  await host.driver.converge(signal);
  expect(host.driver.wantsConvergence).toBe(false);
});

it("a network state that cannot be stored is in force, and a convergence stores it", async () => {
  await host.put(stateOf(host, 1));
  host.faults.isDiskFull = true;
  const next = stateOf(host, 2, { remotePorts: [] });
  expect(await host.put(next)).toEqual({
    status: 200,
    body: { version: 2, isApplied: true, isStored: false },
  });
  expect(await host.ofctl("dump-flows")).not.toContain("192.0.2.9");
  await expect(host.driver.converge(signal)).rejects.toThrow("ENOSPC");
  host.faults.isDiskFull = false;
  await host.driver.converge(signal);
  expect(JSON.parse(await readFile(host.files.networkState, "utf8"))).toMatchObject({ version: 2 });
});

describe("the flows to other hosts", () => {
  const dump = () => host.ofctl("dump-flows");

  it("exist once the tunnel's port is open, and the driver is not ready before", async () => {
    await host.put(stateOf(host, 1));
    // Two ports of one switch cannot have the same tunnel.
    await host.vsctl("del-port", host.bridge, "berth-vxlan");
    const options = `options={remote_ip=flow,key=flow,dst_port=${host.tunnelUdpPort}}`;
    const other = ["--", "add-port", "other", "foreign", "--", "set", "Interface", "foreign"];
    const bridge = ["add-br", "other", "--", "set", "Bridge", "other", "datapath_type=netdev"];
    await host.vsctl(...bridge, ...other, "type=vxlan", options);
    await expect(host.driver.converge(signal)).rejects.toThrow(/berth-vxlan.*exists/i);
    expect(host.driver.status()).toMatchObject({
      isReady: false,
      reason: expect.stringContaining("berth-vxlan"),
    });
    expect(await dump()).not.toContain("192.0.2.9");
    await host.vsctl("del-br", "other");
    await host.driver.converge(signal);
    expect(await dump()).toContain("tun_src=192.0.2.9");
    expect(host.driver.status()).toMatchObject({ isReady: true });
  });

  it("follow the numbers of ports that another program has changed", async () => {
    await host.put(stateOf(host, 1));
    const id = await host.runContainer("10.64.0.9/16");
    await host.driver.converge(signal);
    const { hostEnd } = host.names.nameEnds(id);
    await host.vsctl("set", "Interface", "berth-vxlan", "ofport_request=77");
    await host.driver.converge(signal);
    expect(await dump()).toContain("tun_src=192.0.2.9,in_port=77");
    await host.vsctl("set", "Interface", hostEnd, "ofport_request=78");
    await host.driver.converge(signal);
    expect(await dump()).toContain("in_port=78,dl_src=0a:00:0a:40:00:09");
  });
});

describe("an endpoint with the address of one that starts", () => {
  it("is refused once the other one has joined, and leaves its link", async () => {
    const first = await host.createEndpoint("10.64.0.9/16");
    let release: () => void = () => undefined;
    const released = new Promise<void>((resolve) => {
      release = resolve;
    });
    host.faults.beforeAddPort = () => released;
    const joining = host.join(first.id);
    await waitUntil("the link exists", () => host.hasLink(first.id));
    let listings = 0;
    host.faults.beforeListLinks = async () => {
      listings += 1;
    };
    const creating = host.createEndpoint("10.64.0.9/16");
    // Without the lock of the first endpoint, the second one would list its link now.
    await delay(200);
    release();
    expect(await joining).not.toHaveProperty("Err");
    expect((await creating).Err).toContain("belongs to a starting container");
    expect(listings).toBe(1);
    expect(await host.hasLink(first.id)).toBe(true);
  });

  it("replaces it a minute after a join without a container", async () => {
    const first = await host.createEndpoint("10.64.0.9/16");
    host.clock.nowMs += 59_000;
    await host.join(first.id);
    host.clock.nowMs += 59_000;
    await host.driver.converge(signal);
    expect(await host.hasLink(first.id)).toBe(true);
    expect((await host.createEndpoint("10.64.0.9/16")).Err).toContain(
      "belongs to a starting container",
    );
    host.clock.nowMs += 1_000;
    await host.driver.converge(signal);
    expect(await host.createEndpoint("10.64.0.9/16")).not.toHaveProperty("Err");
    expect(await host.hasLink(first.id)).toBe(false);
  });
});

describe("a convergence of many endpoints", () => {
  it("lists links and ports once for a batch, not for each endpoint", async () => {
    const ids: string[] = [];
    for (let index = 1; index <= 12; index++)
      ids.push(await host.runContainer(`10.64.0.${index}/16`));
    for (const id of ids)
      await host.vsctl("del-port", host.bridge, host.names.nameEnds(id).hostEnd);
    let listings = 0;
    host.faults.beforeListLinks = async () => {
      listings += 1;
    };
    await host.driver.converge(signal);
    expect(await host.switchPort.listPorts(signal)).toHaveLength(ids.length + 1);
    expect(listings).toBe(2);
  });

  it("lets containers start while its corrections hang", async () => {
    const ids: string[] = [];
    for (let index = 1; index <= 10; index++)
      ids.push(await host.runContainer(`10.64.0.${index}/16`));
    const ends = new Set(ids.map((id) => host.names.nameEnds(id).hostEnd));
    for (const end of ends) await host.vsctl("del-port", host.bridge, end);
    let release: () => void = () => undefined;
    const released = new Promise<void>((resolve) => {
      release = resolve;
    });
    let hanging = 0;
    host.faults.beforeAddPort = async (name) => {
      if (!ends.has(name)) return;
      hanging += 1;
      await released;
    };
    const converging = host.driver.converge(signal);
    await waitUntil("corrections hang", () => hanging >= 4);
    const { id } = await host.createEndpoint("10.64.1.1/16");
    expect(await host.join(id)).not.toHaveProperty("Err");
    expect(hanging).toBe(4);
    release();
    await converging;
    await host.driver.converge(signal);
    expect(await host.switchPort.listPorts(signal)).toHaveLength(ids.length + 2);
  });

  it("does not wait for an endpoint that a call of Docker changes, and follows soon", async () => {
    const { id: busy } = await host.createEndpoint("10.64.0.8/16");
    const other = host.names.nameEnds(await host.runContainer("10.64.0.9/16")).hostEnd;
    let release: () => void = () => undefined;
    const released = new Promise<void>((resolve) => {
      release = resolve;
    });
    host.faults.beforeAddPort = async (name) => {
      if (name !== other) await released;
    };
    host.clock.nowMs += 60_000;
    const joining = host.join(busy);
    await waitUntil("the join creates the link", () => host.hasLink(busy));
    await host.vsctl("del-port", host.bridge, other);
    await host.driver.converge(signal);
    expect((await host.switchPort.listPorts(signal)).map(({ name }) => name)).toContain(other);
    expect(host.driver.wantsConvergence).toBe(true);
    release();
    expect(await joining).not.toHaveProperty("Err");
  });
});

it("a join whose link fails while its port is added leaves neither of them", async () => {
  const { id } = await host.createEndpoint("10.64.0.9/16");
  const { hostEnd } = host.names.nameEnds(id);
  let fail: (error: Error) => void = () => undefined;
  const failed = new Promise<void>((_, reject) => {
    fail = reject;
  });
  host.faults.beforeDisableChecksumOffload = () => failed;
  let isCallOver = false;
  host.faults.beforeAddPort = async () => {
    fail(new LinkError("Linux refused to change a network interface."));
    await delay(500); // a cleanup that does not wait for this call ends earlier
    isCallOver = true;
  };
  expect((await host.join(id)).Err).toMatch(/refused/);
  expect(isCallOver).toBe(true);
  const ports = await host.switchPort.listPorts(signal);
  expect(ports.map(({ name }) => name)).not.toContain(hostEnd);
  expect(await host.hasLink(id)).toBe(false);
  host.faults.beforeDisableChecksumOffload = async () => undefined;
  expect(await host.join(id)).not.toHaveProperty("Err");
});

it("the tunnel is guarded for the address of the network state, or the driver is not ready", async () => {
  const addresses: (string | null)[] = [];
  host.faults.ensureGuard = async (address) => {
    addresses.push(address);
  };
  await host.driver.converge(signal);
  await host.put({ ...stateOf(host, 1), tunnelAddress: "192.0.2.6" });
  expect(addresses).toEqual([null, "192.0.2.6"]);
  host.faults.ensureGuard = () => Promise.reject(new Error("Cannot protect the tunnel."));
  await expect(host.driver.converge(signal)).rejects.toThrow("Cannot protect the tunnel.");
  expect(host.driver.status()).toMatchObject({
    isReady: false,
    reason: "Cannot protect the tunnel.",
  });
});
