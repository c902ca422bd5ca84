import { type ChildProcess, execFile, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { promisify } from "node:util";
import type Docker from "dockerode";
import { afterAll, beforeAll, expect, it } from "vitest";
import {
  createContainer,
  createNetwork,
  type DriverHost,
  serveText,
  shell,
  startDriverHost,
} from "../support/network/driver-host.ts";
import { addNamespace } from "../support/network/machine-traces.ts";
import type { FakeSet } from "../support/ovs/fake-set.ts";
import { addNeighbor, runInNamespace } from "../support/ovs/host-routing.ts";
import { waitUntil } from "../support/wait-until.ts";

const run = promisify(execFile);
const namespace = `berth-out-${randomBytes(3).toString("hex")}`;
const outsideAddress = "203.0.113.9";
const onHost = (program: string, ...args: string[]) => runInNamespace(namespace, program, ...args);
let host: DriverHost;
let outside: FakeSet;

/** A host with Docker, Open vSwitch and the driver, whose default route leads to one machine. */
beforeAll(async () => {
  await addNamespace(namespace);
  await onHost("ip", "link", "set", "lo", "up");
  const wan = { name: "wan", address: outsideAddress, hostSide: "203.0.113.1" };
  outside = await addNeighbor(namespace, wan);
  await onHost("ip", "route", "add", "default", "via", outsideAddress);
  host = await startDriverHost(undefined, { namespace, outboundSubnet: "198.19.0.0/16" });
});
afterAll(async () => {
  await host.close();
  await outside.close();
  await run("ip", ["netns", "delete", namespace]);
});

/** Sends "hello" to the machine outside, in the framing of fake-set.py, and returns the answer. */
async function greet(container: Docker.Container): Promise<string> {
  const request = String.raw`printf '\000\000\000\005hello'`;
  return shell(container, `${request} | nc ${outsideAddress} 7000 | tail -c 9`);
}

/** A program of the host that listens at the port, and ends connections. */
async function listen(port: number): Promise<ChildProcess> {
  const script = `require("node:net").createServer((one) => one.destroy()).listen(${port}, "0.0.0.0")`;
  const program = spawn("/sbin/ip", ["netns", "exec", namespace, process.execPath, "-e", script]);
  const local = `:${port.toString(16).toUpperCase()} 00000000:0000 0A`;
  await waitUntil("the program listens", async () => {
    const { stdout } = await onHost("cat", "/proc/net/tcp");
    return stdout.includes(local);
  });
  return program;
}

it("containers of two networks with equal addresses reach a machine outside, after restarts", async () => {
  const networks = [
    await createNetwork(host, { vni: 5001 }),
    await createNetwork(host, { vni: 5002 }),
  ];
  const containers = await Promise.all(
    networks.map(async (network, place) => {
      const options = { network, address: "10.64.0.9", restart: "always" as const };
      const command = serveText(`set ${place}`);
      const container = await createContainer(host.docker, { ...options, command });
      await container.start();
      return container;
    }),
  );
  const expectAnswers = async () => {
    for (const container of containers)
      await waitUntil("the container reaches the machine outside", async () => {
        expect(await greet(container)).toBe("wan:hello");
        return true;
      });
  };
  await expectAnswers();
  await host.endDriver("SIGKILL");
  await expectAnswers();
  // As a reload of another program's packet filter does.
  for (const table of ["filter", "nat"]) await onHost("iptables", "-t", table, "-F");
  // As after a boot, when the driver starts before Docker. Then Docker does not deny forwarding.
  await onHost("iptables", "-P", "FORWARD", "ACCEPT");
  await onHost("sysctl", "-qw", "net.ipv4.ip_forward=0");
  await host.startDriver();
  await expectAnswers();
  const { stdout } = await onHost("iptables", "-S", "FORWARD");
  expect(stdout).toContain("-P FORWARD DROP");
  await host.ovs.killSwitch();
  await host.ovs.startSwitch();
  await expectAnswers();
  await host.privateDocker.restart("docker");
  await expectAnswers();
});

it("a machine outside reaches a published port, even after restarts, and no port of another program is published", async () => {
  const network = await createNetwork(host, { vni: 5003 });
  const publish = async (address: string, ports: string) =>
    createContainer(host.docker, {
      network,
      address,
      restart: "always",
      command: serveText("published"),
      driverOptions: { "berth.ports": ports },
    });
  const container = await publish("10.64.0.9", "tcp/20001=80");
  await container.start();
  const fetchPublished = async () => {
    const url = "http://203.0.113.1:20001/";
    const command = ["busybox", "timeout", "5", "busybox", "wget", "-qO-", url];
    const { stdout } = await run("ip", ["netns", "exec", `${namespace}-wan`, ...command]);
    return stdout.trim();
  };
  const expectPublished = () =>
    waitUntil("the machine outside reaches the container", async () => {
      expect(await fetchPublished()).toBe("published");
      return true;
    });
  await expectPublished();
  await container.restart({ t: 0 });
  await expectPublished();
  await host.endDriver("SIGKILL");
  expect(await fetchPublished()).toBe("published");
  for (const table of ["filter", "nat"]) await onHost("iptables", "-t", table, "-F");
  const thief = await listen(20_001);
  try {
    await host.startDriver();
    expect(await host.status()).toMatchObject({ isReady: true, takenPorts: ["20001/tcp"] });
    await expect(fetchPublished()).rejects.toThrow();
  } finally {
    thief.kill("SIGKILL");
  }
  await host.endDriver("SIGKILL");
  await host.startDriver();
  expect(await host.status()).toMatchObject({ isReady: true, takenPorts: [] });
  await expectPublished();
  // A program of the host that starts later cannot listen at the port, not even at one address.
  const late = `require("node:net").createServer().listen(20001, "203.0.113.1")`;
  await expect(onHost(process.execPath, "-e", late)).rejects.toThrow("EADDRINUSE");
  const program = await listen(20_002);
  try {
    const second = await publish("10.64.0.10", "tcp/20002=80");
    await expect(second.start()).rejects.toThrow("address already in use");
  } finally {
    program.kill("SIGKILL");
  }
});
