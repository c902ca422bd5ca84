import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { setCommandRunner } from "../../src/host-adapters/exec.ts";
import { createOvsSwitch } from "../../src/host-adapters/ovs/ovs-switch.ts";
import {
  type ListedPort,
  SwitchError,
  TUNNEL_PORT,
} from "../../src/network-driver/ports/switch-port.ts";
import { addNamespace } from "../support/network/machine-traces.ts";
import { type PrivateOvs, startPrivateOvs } from "../support/ovs/private-ovs.ts";
import { udpFrame } from "../support/ovs/frames.ts";
import { datapath } from "../support/ovs/test-hosts.ts";

const run = promisify(execFile);
const { signal } = new AbortController();
const namespace = `berth-switch-${process.pid}`;
const bridge = "berth0";
const arping = ["busybox", "arping", "-c", "1", "-w", "1"];

describe("the Open vSwitch adapter", () => {
  let ovs: PrivateOvs;
  beforeAll(async () => {
    await addNamespace(namespace);
    ovs = await startPrivateOvs({ namespace });
    await createSwitch().ensureBridge(signal);
  });
  afterEach(() => setCommandRunner(undefined));
  afterAll(async () => {
    await ovs.close();
    await run("ip", ["netns", "delete", namespace]);
  });

  const createSwitch = (udpPort = 4790) =>
    createOvsSwitch({ bridge, datapath, runFolder: ovs.runFolder, tunnel: { udpPort } });
  const ip = (...args: string[]) => run("ip", ["-n", namespace, ...args]);
  const addLink = (name: string) => ip("link", "add", name, "type", "veth", "peer", `${name}p`);
  const listPorts = async () =>
    (await createSwitch().listPorts(signal)).filter(({ name }) => name !== TUNNEL_PORT);
  /** The flows without their counters. */
  const dumpFlows = async () =>
    (await ovs.ovs("ovs-ofctl", "dump-flows", "--no-stats", bridge))
      .trim()
      .split("\n")
      .map((line) => line.trim());

  it("creates a bridge that forwards nothing, and later leaves its flows alone", async () => {
    const other = createOvsSwitch({
      bridge: "berth1",
      datapath,
      runFolder: ovs.runFolder,
    });
    await other.ensureBridge(signal);
    expect(await ovs.ovs("ovs-ofctl", "dump-flows", "--no-stats", "berth1")).toBe("");
    expect(await other.listPorts(signal)).toEqual([]);
    await createSwitch().replaceFlows(["table=0,priority=7,arp,actions=drop"], signal);
    await createSwitch().ensureBridge(signal);
    expect(await dumpFlows()).toEqual(["priority=7,arp actions=drop"]);
  });

  it("has a tunnel port for the flows of all hosts, on the UDP port of the options", async () => {
    await createSwitch(4791).ensureBridge(signal);
    const [tunnel] = await createSwitch().listPorts(signal);
    expect(tunnel).toEqual({ name: TUNNEL_PORT, externalIds: {}, ofPort: expect.any(Number) });
    const options = await ovs.ovs("ovs-vsctl", "get", "Interface", TUNNEL_PORT, "options");
    expect(options.trim()).toBe('{dst_port="4791", key=flow, remote_ip=flow}');
  });

  it("limits the tracked connections of each network, even if the switch restarts", async () => {
    const read = () =>
      ovs.ovs("ovs-appctl", "--target=ovs-vswitchd", "dpctl/ct-get-limits", "netdev@ovs-netdev");
    await createSwitch().ensureBridge(signal);
    // An eighth of the 3,000,000 that the netdev datapath tracks.
    expect(await read()).toContain("default limit=375000");
    await ovs.killSwitch();
    await ovs.startSwitch();
    await createSwitch().ensureBridge(signal);
    expect(await read()).toContain("default limit=375000");
  });

  it("removes the tracked connections of one zone", async () => {
    const read = () =>
      ovs.ovs("ovs-appctl", "--target=ovs-vswitchd", "dpctl/dump-conntrack", "netdev@ovs-netdev");
    const link = { from: "0a:00:0a:40:00:09", to: "0a:00:0a:40:00:0a" };
    const addresses = { source: "10.64.0.9", destination: "10.64.0.10" };
    const frame = udpFrame({ ...link, ...addresses, text: "x" }).toString("hex");
    const commit = (zone: number) =>
      `in_port=controller packet=${frame} actions=ct(commit,zone=${zone})`;
    for (const zone of [5, 6])
      await ovs.ovs("ovs-ofctl", "--protocols=OpenFlow14", "packet-out", bridge, commit(zone));
    expect((await read()).match(/zone=\d/g)?.toSorted()).toEqual(["zone=5", "zone=6"]);
    await createSwitch().endConnections({ zone: 5 }, signal);
    expect((await read()).match(/zone=\d/g)).toEqual(["zone=6"]);
    await createSwitch().endConnections({ zone: 6 }, signal);
    await createSwitch().endConnections({ zone: 6 }, signal);
    expect(await read()).not.toContain("zone=");
  });

  it("adds a port with exactly the external ids, twice as once, and removes it", async () => {
    await addLink("link1");
    const externalIds = { "berth-set": "set_1", "berth-addresses": '10.64.0.9,fd00::9 "={}\\ x' };
    await createSwitch().addPort({ name: "link1", externalIds: { "berth-old": "1" } }, signal);
    const [first] = await listPorts();
    await createSwitch().addPort({ name: "link1", externalIds }, signal);
    const expected: ListedPort = { name: "link1", externalIds, ofPort: first?.ofPort };
    expect(expected.ofPort).toBeGreaterThan(0);
    expect(await listPorts()).toEqual([expected]);
    await createSwitch().removePort("link1", signal);
    await createSwitch().removePort("link1", signal);
    expect(await listPorts()).toEqual([]);
  });

  it("rejects an interface that does not exist, and leaves no port", async () => {
    const added = createSwitch().addPort({ name: "nowhere", externalIds: {} }, signal);
    await expect(added).rejects.toThrow(
      "Open vSwitch cannot open nowhere: could not open network device nowhere (No such device).",
    );
    expect(await listPorts()).toEqual([]);
  });

  it("lists a port whose interface has vanished without a number, and removes it", async () => {
    await addLink("link2");
    await createSwitch().addPort({ name: "link2", externalIds: {} }, signal);
    await ip("link", "delete", "link2");
    const vanished = [{ name: "link2", externalIds: {}, ofPort: undefined }];
    await expect.poll(listPorts).toEqual(vanished);
    await addLink("link2"); // Open vSwitch does not notice that it is a different one
    await expect.poll(listPorts).toEqual(vanished);
    await createSwitch().removePort("link2", signal);
    expect(await listPorts()).toEqual([]);
  });

  it("receives from an interface that replaces one of the same name", async () => {
    const port = { name: "link3", externalIds: { "berth-set": "set_3" } };
    await createSwitch().replaceFlows(["table=0,priority=1,actions=drop"], signal);
    await addLink("link3");
    await createSwitch().addPort(port, signal);
    await ip("link", "delete", "link3");
    await addLink("link3");
    await createSwitch().addPort(port, signal);
    await ip("link", "set", "link3", "up");
    await ip("link", "set", "link3p", "up");
    const isReceived = async () => {
      const args = ["netns", "exec", namespace, ...arping, "-I", "link3p", "10.0.0.1"];
      await run("ip", args).catch(() => undefined); // no interface answers
      return (await ovs.ovs("ovs-ofctl", "dump-flows", bridge)).match(/n_packets=([1-9])/);
    };
    await expect.poll(isReceived).not.toBeNull();
    const [listed] = await listPorts();
    expect(listed).toEqual({ ...port, ofPort: expect.any(Number) });
    await createSwitch().removePort("link3", signal);
  });

  it("applies all flows or none", async () => {
    const before = ["table=0,priority=1,ip,actions=drop", "table=3,priority=2,arp,actions=drop"];
    await createSwitch().replaceFlows(before, signal);
    const dumped = await dumpFlows();
    expect(dumped).toHaveLength(2);
    expect(await createSwitch().countFlows(signal)).toBe(2);
    const refused = ["table=0,priority=9,actions=drop", "table=0,priority=8,actions=output:70000"];
    await expect(createSwitch().replaceFlows(refused, signal)).rejects.toThrow(SwitchError);
    const split = ["table=0,priority=9,actions=drop\ntable=0,actions=flood"];
    await expect(createSwitch().replaceFlows(split, signal)).rejects.toThrow("is not one flow");
    expect(await dumpFlows()).toEqual(dumped);
    await createSwitch().replaceFlows([], signal);
    expect(await dumpFlows()).toEqual([""]);
  });

  it("sends differences, and all flows after another program has changed their number", async () => {
    const ovsSwitch = createSwitch();
    const flow = (priority: number, actions: string, cookie = 1) =>
      `cookie=0x${cookie},table=0,priority=${priority},arp,actions=${actions}`;
    const expectFlows = async (lines: readonly string[]) => {
      await ovsSwitch.replaceFlows(lines, signal);
      expect(await ovsSwitch.countFlows(signal)).toBe(lines.length);
      const dump = await ovs.ovs("ovs-ofctl", "dump-flows", "--no-stats", bridge);
      const rules = dump.split("\n").flatMap((line) => {
        const [, cookie = "0x0", priority, actions] =
          /(?:cookie=(\w+), )?priority=(\d+),arp actions=(\w+)/.exec(line) ?? [];
        return priority === undefined
          ? []
          : [flow(Number(priority), actions ?? "", Number(cookie))];
      });
      expect(rules.toSorted()).toEqual(lines.toSorted());
    };
    await expectFlows([flow(1, "drop"), flow(2, "drop"), flow(3, "drop")]);
    await expectFlows([flow(1, "drop"), flow(2, "FLOOD"), flow(4, "drop")]);
    await expectFlows([flow(1, "drop", 2), flow(4, "drop")]);
    await ovs.ovs("ovs-ofctl", "del-flows", "--strict", bridge, "priority=4,arp");
    await expectFlows([flow(1, "drop", 2), flow(4, "drop")]);
    await expect(ovsSwitch.replaceFlows(["table=0,nonsense"], signal)).rejects.toThrow(SwitchError);
    await expectFlows([flow(1, "drop", 2), flow(4, "drop"), flow(5, "drop")]);
    await expectFlows([]);
  });

  it("ends connections even if each check of the flows takes longer than a call waits", async () => {
    const checkMs = 6_000;
    setCommandRunner(async (program, args, { timeoutMs, env = {} }) => {
      if (args.includes("revalidator/wait")) await delay(Math.min(checkMs, timeoutMs));
      if (args.includes("revalidator/wait") && timeoutMs < checkMs) throw new Error("too slow");
      const options = { timeout: timeoutMs, env: { ...process.env, ...env } };
      return (await run(program, [...args], options)).stdout;
    });
    const ovsSwitch = createSwitch();
    const results: string[] = [];
    // Two checks, which the calls share.
    for (let call = 0; call < 4 && !results.includes("ended"); call += 1)
      results.push(
        await ovsSwitch.endConnections({ zone: 7 }, signal).then(
          () => "ended",
          (error: unknown) => String(error),
        ),
      );
    const late = expect.stringContaining("has checked its flows for more than 5 s");
    expect(results).toEqual([late, late, "ended"]);
  });

  it("configures the processors of threads that poll network cards", async () => {
    const options = { bridge: "berth1", datapath, runFolder: ovs.runFolder } as const;
    const readMask = () =>
      ovs.ovs("ovs-vsctl", "--if-exists", "get", "Open_vSwitch", ".", "other_config:pmd-cpu-mask");
    await createOvsSwitch({ ...options, pmdCpus: [1, 3] }).ensureBridge(signal);
    expect(await readMask()).toContain('"0xa"');
    // Without the setting, that of the operator stays.
    await createOvsSwitch(options).ensureBridge(signal);
    expect(await readMask()).toContain('"0xa"');
  });

  it("refuses names and external ids that ovs-vsctl would read as something else", async () => {
    for (const name of ["--all", "a b", "sixteen-letters-", "a/b", ""])
      await expect(createSwitch().removePort(name, signal)).rejects.toThrow(SwitchError);
    for (const externalIds of [{ foreign: "x" }, { "berth-set": "a\nb" }])
      await expect(createSwitch().addPort({ name: "link5", externalIds }, signal)).rejects.toThrow(
        "is not a valid external id",
      );
  });

  it("retains ports and their numbers when the switch restarts, and says when it is down", async () => {
    await addLink("link4");
    await createSwitch().addPort({ name: "link4", externalIds: { "berth-set": "set_4" } }, signal);
    await createSwitch().replaceFlows(["table=0,priority=7,arp,actions=drop"], signal);
    const ports = await listPorts();
    expect(await createSwitch().isUp(signal)).toBe(true);

    await ovs.killSwitch();
    expect(await createSwitch().isUp(signal)).toBe(false);
    await expect(createSwitch().replaceFlows([], signal)).rejects.toThrow(SwitchError);
    await ovs.startSwitch();
    expect(await createSwitch().isUp(signal)).toBe(true);
    await createSwitch().ensureBridge(signal);
    expect(await listPorts()).toEqual(ports);
    expect(await createSwitch().countFlows(signal)).toBe(0);

    await ovs.killDatabase();
    expect(await createSwitch().isUp(signal)).toBe(false);
    await expect(createSwitch().listPorts(signal)).rejects.toThrow(SwitchError);
    await ovs.startDatabase();
    await expect.poll(() => createSwitch().isUp(signal)).toBe(true);
    // The daemon writes the numbers again soon after it has connected.
    await expect.poll(listPorts).toEqual(ports);
  });

  it("ends a call when its signal is aborted", async () => {
    const aborted = AbortSignal.abort(new Error("the driver stops"));
    await expect(createSwitch().listPorts(aborted)).rejects.toThrow(SwitchError);
    await expect(createSwitch().isUp(aborted)).rejects.toThrow("the driver stops");
  });
});
