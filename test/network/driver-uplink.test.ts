import { afterEach, beforeEach, expect, it } from "vitest";
import { startSwitchDriver, type SwitchDriver } from "../support/network/switch-driver.ts";

const { signal } = new AbortController();
let host: SwitchDriver;

beforeEach(async () => {
  host = await startSwitchDriver({ hasUplink: true });
});
afterEach(() => host.close());

it("the uplink has its flows again after its link vanished, and the driver is ready only with it", async () => {
  await host.runContainer("10.64.0.9/16");
  const { hostEnd, containerEnd } = host.names.uplink;
  const countUplinkFlows = async () => {
    const ports = await host.switchPort.listPorts(signal);
    const ofPort = ports.find(({ name }) => name === hostEnd)?.ofPort;
    const flows = await host.ofctl("dump-flows");
    return ofPort === undefined ? 0 : flows.split(`in_port=${ofPort},nw_dst=198.19.`).length - 1;
  };
  const ensured: string[] = [];
  host.faults.ensureUplink = async (name) => {
    ensured.push(name);
  };
  await host.driver.converge(signal);
  expect(ensured).toEqual([containerEnd]);
  expect(await countUplinkFlows()).toBe(1);
  await host.links.remove(hostEnd, signal);
  await host.driver.converge(signal);
  expect(await countUplinkFlows()).toBe(1);
  host.faults.ensureUplink = () => Promise.reject(new Error("Another program has the subnet."));
  await expect(host.driver.converge(signal)).rejects.toThrow("Another program has the subnet.");
  expect(host.driver.status()).toMatchObject({ isReady: false });
  expect(await countUplinkFlows()).toBe(1);
});
