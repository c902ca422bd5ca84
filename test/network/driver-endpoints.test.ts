import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { createVethLinks } from "../../src/host-adapters/links/veth-links.ts";
import { createOvsSwitch } from "../../src/host-adapters/ovs/ovs-switch.ts";
import { openJsonState } from "../../src/host-adapters/state-file/json-state.ts";
import { networkStateSchema } from "../../src/contracts/network-driver/network-state.ts";
import { newId } from "../../src/lib/ids.ts";
import { silentLog } from "../../src/lib/log.ts";
import { driverRecordsSchema } from "../../src/network-driver/model/driver-records.ts";
import { createLinkNames } from "../../src/network-driver/model/link-names.ts";
import {
  createNetworkDriver,
  type NetworkDriver,
} from "../../src/network-driver/network-driver.ts";
import type { LinkPort } from "../../src/network-driver/ports/link-port.ts";
import type { SwitchPort } from "../../src/network-driver/ports/switch-port.ts";
import { addNamespace, noteTraces } from "../support/network/machine-traces.ts";
import { waitUntil } from "../support/wait-until.ts";
import { type PrivateOvs, startPrivateOvs } from "../support/ovs/private-ovs.ts";

const run = promisify(execFile);
const { signal } = new AbortController();
const suffix = randomBytes(3).toString("hex");
const bridge = `b${suffix}`;
const linkPrefix = `t${suffix.slice(0, 2)}`;
const namespace = `berth-driver-${suffix}`;
const names = createLinkNames(linkPrefix);
const dockerNetwork = randomBytes(32).toString("hex");
const networkId = newId("net");

/** The driver on this machine's links and an Open vSwitch of its own; the test is its Docker. */
describe("an endpoint of the driver", () => {
  let ovs: PrivateOvs;
  let folder: string;
  let links: LinkPort;
  let switchPort: SwitchPort;
  let nowMs = 0;
  let driver: NetworkDriver;
  let used: string[] = [];

  beforeAll(async () => {
    noteTraces({ bridge }, { linkPrefix });
    await addNamespace(namespace);
    ovs = await startPrivateOvs();
    links = createVethLinks({ disablesChecksumOffload: true });
    switchPort = createOvsSwitch({ bridge, datapath: "netdev", runFolder: ovs.runFolder });
  });
  afterAll(async () => {
    await ovs.close();
    await run("ip", ["netns", "delete", namespace]);
  });
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), "berth-endpoints-"));
    used = [];
    driver = await startDriver();
    await createNetwork();
  });
  afterEach(async () => {
    for (const id of used) await call("DeleteEndpoint", { EndpointID: id });
    await rm(folder, { recursive: true, force: true });
  });

  async function startDriver(): Promise<NetworkDriver> {
    const started = await createNetworkDriver({
      links,
      switchPort,
      tunnelGuard: { ensure: async () => undefined },
      datapath: "netdev",
      recordStore: openJsonState(join(folder, "records.json"), driverRecordsSchema),
      networkStateStore: openJsonState(join(folder, "state.json"), networkStateSchema),
      linkPrefix,
      mtu: 1450,
      version: "test",
      nowMs: () => nowMs,
      log: silentLog,
    });
    await started.converge(signal);
    return started;
  }
  const call = (method: string, body: object): Promise<{ Err?: string }> =>
    driver.answerDocker(
      `/NetworkDriver.${method}`,
      JSON.stringify({ NetworkID: dockerNetwork, ...body }),
    );
  const createNetwork = (changes: object = {}, NetworkID = dockerNetwork) =>
    call("CreateNetwork", {
      NetworkID,
      Options: {
        "com.docker.network.generic": {
          "berth.network": networkId,
          "berth.vni": "4097",
          ...changes,
        },
      },
      IPv4Data: [{ AddressSpace: "x", Pool: "10.64.0.0/16", Gateway: "10.64.0.1/16" }],
      IPv6Data: null,
    });
  const newEndpoint = (): string => {
    const id = randomBytes(32).toString("hex");
    used.push(id);
    return id;
  };
  const create = (EndpointID: string, Address = "10.64.0.9/16") =>
    call("CreateEndpoint", { EndpointID, Interface: { Address }, Options: {} });
  const join_ = (EndpointID: string) => call("Join", { EndpointID, SandboxKey: "/x" });
  /** As Docker does it after a join. */
  const moveToContainer = async (id: string) => {
    await run("ip", ["link", "set", names.nameEnds(id).containerEnd, "netns", namespace]);
  };
  const hasLink = async (id: string) =>
    (await links.list(signal)).some(({ name }) => name === names.nameEnds(id).hostEnd);
  const hasPort = async (id: string) =>
    (await switchPort.listPorts(signal)).some(({ name }) => name === names.nameEnds(id).hostEnd);
  const exists = async (id: string) => ({
    record: driver.status().endpoints > 0,
    link: await hasLink(id),
    port: await hasPort(id),
  });

  it("is joined once however often Docker repeats a call", async () => {
    const id = newEndpoint();
    expect(await create(id)).toEqual({ Interface: { MacAddress: "0a:00:0a:40:00:09" } });
    expect(await create(id)).toEqual({ Interface: { MacAddress: "0a:00:0a:40:00:09" } });
    const answers = await Promise.all([join_(id), join_(id), join_(id)]);
    expect(answers[0]).toEqual({
      InterfaceName: { SrcName: names.nameEnds(id).containerEnd, DstPrefix: "eth" },
      Gateway: "10.64.0.1",
      GatewayIPv6: "",
      DisableGatewayService: true,
    });
    expect(answers[1]).toEqual(answers[0]);
    expect(await exists(id)).toEqual({ record: true, link: true, port: true });
    for (let time = 0; time < 2; time++) {
      expect(await call("Leave", { EndpointID: id })).toEqual({});
      expect(await exists(id)).toEqual({ record: true, link: false, port: false });
    }
    for (let time = 0; time < 2; time++)
      expect(await call("DeleteEndpoint", { EndpointID: id })).toEqual({});
    expect(await exists(id)).toEqual({ record: false, link: false, port: false });
    expect((await join_(id)).Err).toContain("The network driver has no record of this endpoint.");
  });

  it("is joined by a driver that started after its creation, as is its network", async () => {
    const [first, second] = [newEndpoint(), newEndpoint()];
    await create(first);
    driver = await startDriver();
    expect(await join_(first)).not.toHaveProperty("Err");
    expect(await call("Leave", { EndpointID: first })).toEqual({});
    expect(await call("DeleteEndpoint", { EndpointID: first })).toEqual({});
    driver = await startDriver();
    expect(driver.status()).toMatchObject({ networks: 1, endpoints: 0 });
    expect(await create(second)).not.toHaveProperty("Err");
  });

  it("gets a new link when it is joined again while the old link exists", async () => {
    const id = newEndpoint();
    await create(id);
    await join_(id);
    await moveToContainer(id);
    expect(await join_(id)).not.toHaveProperty("Err");
    const link = (await links.list(signal)).find(({ name }) => name === names.nameEnds(id).hostEnd);
    expect(link?.isPeerInOtherNamespace).toBe(false);
    expect(await exists(id)).toEqual({ record: true, link: true, port: true });
  });

  it("is removed after a minute without a container, and no earlier", async () => {
    const [recorded, joined, running] = [newEndpoint(), newEndpoint(), newEndpoint()];
    for (const [index, id] of [recorded, joined, running].entries())
      await create(id, `10.64.0.${index + 10}/16`);
    for (const id of [joined, running]) await join_(id);
    await moveToContainer(running);
    nowMs += 59_999;
    await driver.converge(signal);
    expect(driver.status().endpoints).toBe(3);
    nowMs += 1;
    await driver.converge(signal);
    expect(driver.status().endpoints).toBe(1);
    expect(await exists(running)).toEqual({ record: true, link: true, port: true });
    expect([await hasLink(joined), await hasPort(joined)]).toEqual([false, false]);
    driver = await startDriver();
    expect(driver.status().endpoints).toBe(1);
  });

  it("shares its address with no running one, even if five start together", async () => {
    const ids = Array.from({ length: 5 }, newEndpoint);
    await Promise.all(ids.map((id) => create(id)));
    expect(driver.status().endpoints).toBe(1);
    const joins = await Promise.all(ids.map(join_));
    expect(joins.filter((answer) => answer.Err === undefined)).toHaveLength(1);
    const winner = ids[joins.findIndex((answer) => answer.Err === undefined)] ?? "";
    await moveToContainer(winner);
    const late = newEndpoint();
    expect((await create(late)).Err).toContain("belongs to a running container");
    await run("ip", ["-n", namespace, "link", "delete", names.nameEnds(winner).containerEnd]);
    expect(await create(late)).not.toHaveProperty("Err");
    expect(driver.status().endpoints).toBe(1);
  });

  it("starts together with nine others", async () => {
    const ids = Array.from({ length: 10 }, newEndpoint);
    await Promise.all(ids.map((id, index) => create(id, `10.64.1.${index + 1}/16`)));
    const joins = await Promise.all(ids.map(join_));
    expect(joins.filter(({ Err }) => Err !== undefined)).toEqual([]);
    const flows = await ovs.ovs("ovs-ofctl", "dump-flows", `unix:${ovs.runFolder}/${bridge}.mgmt`);
    for (const [index] of ids.entries()) expect(flows).toContain(`nw_src=10.64.1.${index + 1} `);
  });

  it("has no link after a join that failed, and is joined once the switch is up", async () => {
    const id = newEndpoint();
    await create(id);
    await ovs.killDatabase();
    expect((await join_(id)).Err).toMatch(/Open vSwitch/);
    await waitUntil("the link is removed", async () => !(await hasLink(id)));
    await ovs.startDatabase();
    expect(await join_(id)).not.toHaveProperty("Err");
    expect(await exists(id)).toEqual({ record: true, link: true, port: true });
  });

  it("is reported, not removed, if it is unknown and a container has its link", async () => {
    const id = newEndpoint();
    await create(id);
    await join_(id);
    await moveToContainer(id);
    const { hostEnd } = names.nameEnds(id);
    const database = `--db=unix:${ovs.runFolder}/db.sock`;
    await ovs.ovs("ovs-vsctl", database, "clear", "Interface", hostEnd, "external_ids");
    await rm(join(folder, "records.json"));
    driver = await startDriver();
    expect(driver.status()).toMatchObject({ endpoints: 0, unknownInterfaces: [hostEnd] });
    expect([await hasLink(id), await hasPort(id)]).toEqual([true, true]);
    // Docker knows the endpoint and removes it when the container ends.
    await call("DeleteEndpoint", { EndpointID: id });
    expect([await hasLink(id), await hasPort(id)]).toEqual([false, false]);
    await driver.converge(signal);
    expect(driver.status().unknownInterfaces).toEqual([]);
  });

  it("belongs to a network whose VNI no other network has", async () => {
    expect(await createNetwork({ "berth.network": newId("net") })).toEqual({
      Err: expect.stringContaining("cannot have the VNI 4097"),
    });
    expect(await createNetwork({ "berth.vni": "4098" })).toEqual({
      Err: expect.stringContaining("cannot have the VNI 4098"),
    });
    // A Docker network whose removal was lost is replaced by the next one for the same network.
    const newer = randomBytes(32).toString("hex");
    expect(await createNetwork({}, newer)).toEqual({});
    expect(driver.status().networks).toBe(1);
    expect(await call("DeleteNetwork", { NetworkID: newer })).toEqual({});
    expect(driver.status().networks).toBe(0);
  });
});
