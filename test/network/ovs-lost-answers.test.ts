import { execFile } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, it } from "vitest";
import { createOvsSwitch } from "../../src/host-adapters/ovs/ovs-switch.ts";
import { SwitchError } from "../../src/network-driver/ports/switch-port.ts";
import { type PrivateOvs, startPrivateOvs } from "../support/ovs/private-ovs.ts";
import { datapath } from "../support/ovs/test-hosts.ts";

const run = promisify(execFile);
const { signal } = new AbortController();
const namespace = `berth-lost-${process.pid}`;
const bridge = "berth0";
/** Places at which the connection to the database ends, spread over its answers. */
const CUTS = 24;
const WRITERS = 4;
const ROUNDS = 12;

let ovs: PrivateOvs;
beforeAll(async () => {
  await run("ip", ["netns", "add", namespace]);
  ovs = await startPrivateOvs({ namespace });
  await switchAt(ovs.runFolder).ensureBridge(signal);
});
afterAll(async () => {
  await ovs.close();
  await run("ip", ["netns", "delete", namespace]);
});

const switchAt = (runFolder: string) => createOvsSwitch({ bridge, datapath, runFolder });
const addLink = (name: string) =>
  run("ip", ["-n", namespace, "link", "add", name, "type", "veth", "peer", `${name}p`]);
const portOf = (name: string) => ({ name, externalIds: { "berth-set": `set_${name}` } });

/** Forwards connections to the database, and ends each after a number of bytes of its answers. */
async function startCutter() {
  const folder = await mkdtemp(join(tmpdir(), "berth-cutter-"));
  const cutter = { folder, bytesMax: Number.POSITIVE_INFINITY, bytes: 0, close };
  const server = createServer((client) => {
    const database = connect(join(ovs.runFolder, "db.sock"));
    let left = cutter.bytesMax;
    const end = () => {
      client.destroy();
      database.destroy();
    };
    for (const socket of [client, database]) socket.on("error", end).on("close", end);
    client.on("data", (chunk) => database.write(chunk));
    database.on("data", (chunk) => {
      cutter.bytes += chunk.length;
      client.write(chunk.subarray(0, left), () => left === 0 && end());
      left -= Math.min(left, chunk.length);
    });
  });
  await new Promise<void>((resolve) => {
    server.listen(join(folder, "db.sock"), resolve);
  });
  return cutter;
  async function close() {
    await new Promise((resolve) => server.close(resolve));
    await rm(folder, { recursive: true });
  }
}

it("an answer that is lost at any byte leaves a port that the next call completes or removes", async () => {
  const cutter = await startCutter();
  const direct = switchAt(ovs.runFolder);
  const broken = switchAt(cutter.folder);
  await addLink("link1");
  const port = portOf("link1");
  const expectPort = async () =>
    expect(await direct.listPorts(signal)).toEqual([{ ...port, ofPort: expect.any(Number) }]);
  const measure = async (work: () => Promise<void>) => {
    cutter.bytes = 0;
    await work();
    return cutter.bytes;
  };
  const addedBytes = await measure(() => broken.addPort(port, signal));
  await expectPort();
  const removedBytes = await measure(() => broken.removePort("link1", signal));
  expect(await direct.listPorts(signal)).toEqual([]);
  for (let cut = 0; cut < CUTS; cut += 1) {
    cutter.bytesMax = Math.floor((addedBytes * cut) / CUTS);
    await expect(broken.addPort(port, signal)).rejects.toThrow(SwitchError);
    await direct.addPort(port, signal);
    await expectPort();
    cutter.bytesMax = Math.floor((removedBytes * cut) / CUTS);
    await expect(broken.removePort("link1", signal)).rejects.toThrow(SwitchError);
    await direct.removePort("link1", signal);
    expect(await direct.listPorts(signal)).toEqual([]);
  }
  await cutter.close();
});

it("ports that several calls add and remove together have numbers, and none stays", async () => {
  const names = Array.from({ length: WRITERS }, (_, index) => `many${index}`);
  await Promise.all(names.map(addLink));
  const ovsSwitch = switchAt(ovs.runFolder);
  const work = names.map(async (name) => {
    for (let round = 0; round < ROUNDS; round += 1) {
      await ovsSwitch.addPort(portOf(name), signal);
      const listed = (await ovsSwitch.listPorts(signal)).find((port) => port.name === name);
      expect(listed).toEqual({ ...portOf(name), ofPort: expect.any(Number) });
      await ovsSwitch.removePort(name, signal);
    }
  });
  await Promise.all(work);
  expect(await ovsSwitch.listPorts(signal)).toEqual([]);
});

it("a port of another bridge is neither taken nor removed", async () => {
  const options = { datapath, runFolder: ovs.runFolder } as const;
  const other = createOvsSwitch({ ...options, bridge: "berth1" });
  await other.ensureBridge(signal);
  await addLink("link2");
  await other.addPort(portOf("link2"), signal);
  const own = switchAt(ovs.runFolder);
  await expect(own.addPort(portOf("link2"), signal)).rejects.toThrow(
    "link2 is a port of another bridge. Remove it there (ovs-vsctl show).",
  );
  await own.removePort("link2", signal);
  expect(await own.listPorts(signal)).toEqual([]);
  expect(await other.listPorts(signal)).toEqual([
    { ...portOf("link2"), ofPort: expect.any(Number) },
  ]);
});

it("a missing bridge has no ports, and gets none", async () => {
  const missing = createOvsSwitch({ bridge: "berth9", datapath, runFolder: ovs.runFolder });
  await addLink("link3");
  const reason = "Open vSwitch has no bridge berth9.";
  await expect(missing.addPort(portOf("link3"), signal)).rejects.toThrow(reason);
  await expect(missing.listPorts(signal)).rejects.toThrow(reason);
  await missing.removePort("link3", signal);
  expect((await ovs.ovs("ovs-vsctl", "--bare", "list", "Interface")).includes("link3")).toBe(false);
});
