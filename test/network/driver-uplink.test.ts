import { execFile } from "node:child_process";
import { readFile, rm } from "node:fs/promises";
import { promisify } from "node:util";
import { afterEach, beforeEach, expect, it } from "vitest";
import { SwitchError } from "../../src/network-driver/ports/switch-port.ts";
import { newId } from "../../src/lib/ids.ts";
import { startSwitchDriver, stateOf, type SwitchDriver } from "../support/network/switch-driver.ts";

const run = promisify(execFile);
const { signal } = new AbortController();
let host: SwitchDriver;

beforeEach(async () => {
  host = await startSwitchDriver({ hasUplink: true });
});
afterEach(() => host.close());

it("the uplink has its flows again after its link vanished, and the driver is ready only with it", async () => {
  await host.runContainer("10.64.0.9/16");
  const { switchEnd, routingEnd } = host.names.uplink;
  const countUplinkFlows = async () => {
    const ports = await host.switchPort.listPorts(signal);
    const ofPort = ports.find(({ name }) => name === switchEnd)?.ofPort;
    const flows = await host.ofctl("dump-flows");
    return ofPort === undefined ? 0 : flows.split(`in_port=${ofPort},nw_dst=198.19.`).length - 1;
  };
  const ensured: string[] = [];
  host.faults.ensureUplink = async (name) => {
    ensured.push(name);
  };
  await host.driver.converge(signal);
  expect(ensured).toEqual([routingEnd]);
  expect(await countUplinkFlows()).toBe(1);
  await host.links.remove(switchEnd, signal);
  await host.driver.converge(signal);
  expect(await countUplinkFlows()).toBe(1);
  host.faults.ensureUplink = () => Promise.reject(new Error("Another program has the subnet."));
  await expect(host.driver.converge(signal)).rejects.toThrow("Another program has the subnet.");
  expect(host.driver.status()).toMatchObject({ isReady: false });
  expect(await countUplinkFlows()).toBe(1);
  // A new process cannot know whether the packet filter is complete.
  await host.restart();
  await expect(host.driver.converge(signal)).rejects.toThrow("Another program has the subnet.");
  expect(await countUplinkFlows()).toBe(0);
});

it("the uplink has the MTU of the driver, and vanishes when it is turned off", async () => {
  await host.driver.converge(signal);
  const { switchEnd, routingEnd } = host.names.uplink;
  const readMtu = async (name: string) => readFile(`/sys/class/net/${name}/mtu`, "utf8");
  for (const end of [switchEnd, routingEnd]) {
    await run("ip", ["link", "set", end, "mtu", "1300"]);
    await host.driver.converge(signal);
    expect(await readMtu(end)).toBe("1450\n");
  }
  host.faults.hasUplink = false;
  await host.restart();
  await host.driver.converge(signal);
  await expect(readMtu(switchEnd)).rejects.toThrow("ENOENT");
  const ports = await host.switchPort.listPorts(signal);
  expect(ports.map(({ name }) => name)).not.toContain(switchEnd);
});

it("the driver publishes the ports of its endpoints, even after a restart, until they end", async () => {
  const published: string[] = [];
  host.faults.publish = async (ports) => {
    published.push(
      ports.map((each) => `${each.protocol}/${each.hostPort} ${each.address}`).join(" "),
    );
  };
  await host.driver.converge(signal);
  const ports = "tcp/20001=80,udp/20002=53";
  const id = await host.runContainer("10.64.0.9/16", { "berth.ports": ports });
  const both = published.at(-1);
  expect(both).toMatch(/^tcp\/20001 198\.19\.\d+\.\d+ udp\/20002 198\.19\.\d+\.\d+$/);
  expect(await host.ofctl("dump-flows")).toContain("nat(dst=10.64.0.9:80)");
  await host.restart();
  await host.driver.converge(signal);
  expect(published.at(-1)).toBe(both);
  // The records are lost, and the external ids of the port have the published ports.
  await rm(host.files.records);
  await host.restart();
  await host.driver.converge(signal);
  expect(published.at(-1)).toBe(both);
  await host.call("Leave", { EndpointID: id });
  await host.call("DeleteEndpoint", { EndpointID: id });
  await host.driver.checkFlows(signal);
  expect(published.at(-1)).toBe("");
});

it("the status names published ports at which another program listens, and the driver is ready", async () => {
  await host.driver.converge(signal);
  expect(host.driver.status()).toMatchObject({ isReady: true, takenPorts: [] });
  host.faults.takenPorts = [{ protocol: "tcp", hostPort: 20_001, address: "198.19.0.7" }];
  expect(host.driver.status()).toMatchObject({ isReady: true, takenPorts: ["20001/tcp"] });
});

it("the driver publishes services as a gateway of networks without a container, until they leave", async () => {
  const published: string[] = [];
  host.faults.publish = async (ports) => {
    published.push(ports.map((each) => `${each.protocol}/${each.hostPort}`).join(" "));
  };
  await host.driver.converge(signal);
  const [serviceId, networkId] = [newId("svc"), newId("net")];
  const members = [{ setId: newId("set"), addresses: ["10.64.0.99"], isEndpoint: true }];
  const service = { serviceId, name: "web", addresses: [], members, ports: [] };
  const ports = [{ serviceId, protocol: "tcp", hostPort: 443, port: 8_443 }];
  const gateway = { address: "10.64.9.9", ports };
  const vni = 4_098;
  const put = async (version: number, changes: object) => {
    const state = stateOf(host, version, { networkId, vni, services: [service], ...changes });
    expect(await host.put(state)).toMatchObject({ body: { isApplied: true, isStored: true } });
  };
  await put(1, { gateway });
  expect(published.at(-1)).toBe("tcp/443");
  const listFlows = () => host.ofctl("dump-flows");
  const flows = await listFlows();
  expect(flows).toContain("nat(dst=10.64.0.99:8443)");
  expect(flows).toContain("nat(src=10.64.9.9)");
  await host.restart();
  await host.driver.converge(signal);
  expect(published.at(-1)).toBe("tcp/443");
  expect(await listFlows()).toContain("nat(src=10.64.9.9)");
  await put(2, {});
  expect(published.at(-1)).toBe("");
  expect(await listFlows()).not.toContain("10.64.9.9");
});

it("two containers never have one host port, even if they start together or the driver restarts", async () => {
  await host.driver.converge(signal);
  const options = { "berth.ports": "tcp/80=80" };
  const id = await host.runContainer("10.64.0.9/16", options);
  const taken = { Err: expect.stringContaining("Host port 80/tcp: address already in use") };
  const start = async (address: string) => {
    const { id: endpointId, Err } = await host.createEndpoint(address, options);
    return Err === undefined ? host.join(endpointId) : { Err };
  };
  expect(await start("10.64.0.10/16")).toEqual(taken);
  await host.restart();
  await host.driver.converge(signal);
  expect(await start("10.64.0.10/16")).toEqual(taken);
  await host.call("Leave", { EndpointID: id });
  const answers = await Promise.all(["10.64.0.10/16", "10.64.0.11/16"].map(start));
  expect(answers.filter((answer) => "Err" in answer)).toHaveLength(1);
  // Docker has forgotten the endpoint of the first container, which has left.
  expect(host.driver.status()).toMatchObject({ endpoints: 1 });
});

it("a container does not start with a host port of another program, and others do", async () => {
  await host.driver.converge(signal);
  host.faults.checkUnused = async (ports) => {
    if (ports.length > 0) throw new SwitchError("Host port 80/tcp: address already in use.");
  };
  const { id } = await host.createEndpoint("10.64.0.9/16", { "berth.ports": "tcp/80=80" });
  expect(await host.join(id)).toEqual({ Err: expect.stringContaining("address already in use") });
  await host.runContainer("10.64.0.10/16");
  expect(await host.createEndpoint("10.64.0.11/16", { "berth.ports": "tcp/x" })).toMatchObject({
    Err: expect.stringContaining("berth.ports"),
  });
});
