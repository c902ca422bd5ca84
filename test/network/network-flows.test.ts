import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { renderFlow } from "../../src/network-driver/flows/flow.ts";
import { linkLocalOf } from "../../src/network-driver/flows/flow-addresses.ts";
import {
  addressBytes,
  advertisementFrame,
  arpFrame,
  describeFrame,
  solicitationFrame,
  solicitedAddress,
  tagFrame,
  udpFrame,
} from "../support/ovs/frames.ts";
import { datapath, TestHosts, type TestNetwork, type TestSet } from "../support/ovs/test-hosts.ts";

const { signal } = new AbortController();
const red: TestNetwork = { networkId: "red", vni: 4097 };
const blue: TestNetwork = { networkId: "blue", vni: 4098 };
const protocols = ["tcp", "udp", "icmp"] as const;
/** Long for a packet on this machine, because these answers must not arrive. */
const silenceMs = 1_000;

/**
 * Two hosts. The networks red and blue have the same addresses: set 1 is on the first host, and set
 * 2 on the second one. Red has set 3 on the first host, and blue has set 4 there.
 */
let hosts: TestHosts;
let red1: TestSet;
let red2: TestSet;
let red3: TestSet;
let blue1: TestSet;
let blue2: TestSet;
let blue4: TestSet;

beforeAll(async () => {
  hosts = await TestHosts.start();
  red1 = await hosts.addSet(hosts.first, red, 1);
  red2 = await hosts.addSet(hosts.second, red, 2);
  red3 = await hosts.addSet(hosts.first, red, 3);
  blue1 = await hosts.addSet(hosts.first, blue, 1);
  blue2 = await hosts.addSet(hosts.second, blue, 2);
  blue4 = await hosts.addSet(hosts.first, blue, 4);
  await hosts.apply();
});
afterAll(() => hosts.close());

/** Sends a packet that is permitted, and waits until it arrives. Frames before it have arrived. */
async function awaitMarker(from: TestSet, to: TestSet): Promise<void> {
  const text = `marker ${Math.random()}`;
  await from.sendFrame(
    udpFrame({ from: from.mac, to: to.mac, source: from.ipv4, destination: to.ipv4, text }),
  );
  await expect.poll(() => to.received.some((frame) => frame.includes(text))).toBe(true);
}

function clearReceived(): void {
  for (const set of hosts.sets) set.received.length = 0;
}

/** The sets besides the sender, which gets answers, that have received a frame with `text`. */
function receiversOf(text: string, sender?: TestSet): string[] {
  return hosts.sets
    .filter((set) => set !== sender && set.received.some((frame) => frame.includes(text)))
    .map(({ name }) => name);
}

describe("sets of one network", () => {
  it("reach each other on one host and across hosts by TCP, UDP and ICMP", async () => {
    const pairs = [
      [red1, red3],
      [red3, red1],
      [red1, red2],
      [red2, red1],
      [red2, red3],
      [blue1, blue2],
      [blue2, blue4],
      [blue4, blue1],
    ] as const;
    for (const [from, to] of pairs)
      for (const address of [to.ipv4, to.ipv6, `${linkLocalOf(to.mac)}%eth0`])
        for (const protocol of protocols)
          expect([from.name, protocol, await from.probe(protocol, address)]).toEqual([
            from.name,
            protocol,
            protocol === "icmp" ? "hello" : `${to.name}:hello`,
          ]);
  });

  it("exchange more than a packet holds, on one host and through the tunnel", async () => {
    const text = "0123456789".repeat(30_000);
    for (const to of [red3, red2])
      for (const address of [to.ipv4, to.ipv6])
        expect(await red1.probe("tcp", address, { text })).toBe(`${to.name}:${text}`);
    const datagram = text.slice(0, 6_000); // in fragments
    for (const to of [red3, red2])
      for (const address of [to.ipv4, to.ipv6]) {
        const options = { text: datagram };
        expect(await red1.probe("udp", address, options)).toBe(`${to.name}:${datagram}`);
        expect(await red1.probe("icmp", address, options)).toBe(datagram);
      }
  });
});

describe("sets of different networks", () => {
  it("do not reach each other, on one host and across hosts", async () => {
    const pairs = [
      [red1, blue4],
      [red2, blue4],
      [blue1, red3],
      [blue2, red3],
    ] as const;
    const probes = pairs.flatMap(([from, to]) =>
      [to.ipv4, to.ipv6, `${linkLocalOf(to.mac)}%eth0`].flatMap((address) =>
        protocols.map((protocol) => from.probe(protocol, address, { timeoutMs: silenceMs })),
      ),
    );
    for (const answer of await Promise.all(probes)) expect(answer).toMatch(/^error: /);
  });

  it("receive no frame that names their MAC address", async () => {
    clearReceived();
    for (const from of [red1, red2, red3])
      for (const to of [blue1, blue2, blue4])
        await from.sendFrame(
          udpFrame({
            from: from.mac,
            to: to.mac,
            source: from.ipv4,
            destination: to.ipv4,
            text: `crossing to ${to.name}`,
          }),
        );
    await awaitMarker(red1, red2);
    await awaitMarker(red2, red1);
    await awaitMarker(red3, red2);
    expect(receiversOf("crossing to blue-4")).toEqual([]);
    const kinds = hosts.sets.filter(({ network }) => network === blue).flatMap(receivedFrom);
    // Neighbors of the blue network may still find each other.
    expect(kinds.filter((kind) => !/^icmp6 13[56]$/.test(kind))).toEqual([]);
  });

  const receivedFrom = ({ received }: TestSet) => received.map(describeFrame);
});

describe("a set", () => {
  const honest = () => ({
    from: red1.mac,
    to: red3.mac,
    source: red1.ipv4,
    destination: red3.ipv4,
  });
  const honest6 = () => ({
    from: red1.mac,
    to: red3.mac,
    source: red1.ipv6,
    destination: red3.ipv6,
  });

  it("sends packets from its own MAC address and addresses alone", async () => {
    clearReceived();
    const send = async (change: object, text = "spoofed") => {
      for (const [to, packet] of [
        [red3, honest()],
        [red3, honest6()],
        [red2, { ...honest(), to: red2.mac, destination: red2.ipv4 }],
        [red2, { ...honest6(), to: red2.mac, destination: red2.ipv6 }],
      ] as const) {
        expect(to.network).toBe(red);
        await red1.sendFrame(udpFrame({ ...packet, text, ...change }));
      }
    };
    await send({}, "honest");
    await send({ from: red3.mac });
    await send({ from: "0a:00:0a:40:00:63" });
    for (const source of [red3.ipv4, "10.64.0.99", "0.0.0.0", "10.64.255.254"])
      await send({ source, destination: red3.ipv4 });
    for (const source of [red3.ipv6, "fd00::99", "::", linkLocalOf(red3.mac)])
      await send({ source, destination: red3.ipv6 });
    await awaitMarker(red1, red3);
    await awaitMarker(red1, red2);
    expect(receiversOf("honest", red1)).toEqual(["red-2", "red-3"]);
    expect(receiversOf("spoofed")).toEqual([]);
  });

  it("sends no tagged frame, no DHCP answer, and no advertisement", async () => {
    clearReceived();
    const dhcp = { sourcePort: 67, destinationPort: 68, text: "rogue" };
    const dhcpv6 = { sourcePort: 547, destinationPort: 546, text: "rogue" };
    const everyone = { to: "ff:ff:ff:ff:ff:ff", destination: "255.255.255.255" };
    const everyone6 = { to: "33:33:00:00:00:01", destination: "ff02::1" };
    const own = { ...honest6(), source: linkLocalOf(red1.mac) };
    const frames = [
      tagFrame(udpFrame({ ...honest(), text: "rogue" })),
      udpFrame({ ...honest(), ...dhcp }),
      udpFrame({ ...honest(), ...dhcp, ...everyone }),
      udpFrame({ ...honest6(), ...dhcpv6 }),
      udpFrame({ ...honest6(), ...dhcpv6, ...everyone6 }),
      advertisementFrame(own),
      advertisementFrame({ ...own, ...everyone6 }),
      advertisementFrame(own, red2.ipv6),
      advertisementFrame({ ...own, ...everyone6 }, red2.ipv6),
    ];
    for (const frame of frames) await red1.sendFrame(frame);
    await awaitMarker(red1, red3);
    expect(receiversOf("rogue")).toEqual([]);
    const kinds = hosts.sets.flatMap(({ received }) => received.map(describeFrame));
    expect(kinds.filter((kind) => /^icmp6 13[46]$/.test(kind))).toEqual([]);
  });

  it("cannot change the neighbors of others by ARP", async () => {
    clearReceived();
    const arp = { from: red1.mac, to: red3.mac, senderMac: red1.mac, targetAddress: red3.ipv4 };
    for (const operation of [1, 2] as const)
      for (const to of [red3.mac, "ff:ff:ff:ff:ff:ff"])
        for (const change of [
          { senderAddress: red2.ipv4 },
          { senderAddress: red1.ipv4 },
          { senderAddress: red1.ipv4, targetAddress: red1.ipv4 },
          { senderAddress: red1.ipv4, senderMac: red2.mac },
          { senderAddress: red1.ipv4, from: red2.mac },
        ])
          await red1.sendFrame(arpFrame({ ...arp, operation, to, ...change }));
    await awaitMarker(red1, red3);
    await awaitMarker(red1, red2);
    const others = hosts.sets.filter((set) => set !== red1);
    const kinds = others.flatMap(({ received }) => received.map(describeFrame));
    expect(kinds.filter((kind) => kind.startsWith("arp"))).toEqual([]);
    // Two of these requests were honest.
    const answers = red1.received.map(describeFrame).filter((kind) => kind.startsWith("arp"));
    expect(answers).toEqual(["arp 2", "arp 2"]);
  });

  it("gets one answer for a known neighbor and none for another one, and disturbs no set", async () => {
    clearReceived();
    const targets: [string, string | undefined][] = [
      [red3.ipv4, red3.mac],
      [red2.ipv4, red2.mac],
      ["10.64.255.254", "0a:07:00:00:00:01"],
      [blue4.ipv4, undefined],
      ["10.64.0.99", undefined],
      [red1.ipv4, undefined],
    ];
    for (const [targetAddress] of targets)
      await red1.sendFrame(
        arpFrame({
          from: red1.mac,
          operation: 1,
          senderMac: red1.mac,
          senderAddress: red1.ipv4,
          targetAddress,
        }),
      );
    const targets6: [string, string | undefined][] = [
      [red3.ipv6, red3.mac],
      [red2.ipv6, red2.mac],
      [linkLocalOf(red2.mac), red2.mac],
      ["fd00::ffff", datapath === "netdev" ? "0a:07:00:00:00:01" : undefined],
      [blue4.ipv6, undefined],
      [red1.ipv6, undefined],
    ];
    for (const [target] of targets6)
      await red1.sendFrame(solicitationFrame(red1.mac, red1.ipv6, target));
    await awaitMarker(red1, red3);
    await awaitMarker(red1, red2);
    await awaitMarker(red3, red1);
    await awaitMarker(red2, red1);
    const answersTo = (known: typeof targets) =>
      known.flatMap(([, mac]) => (mac === undefined ? [] : [mac])).toSorted();
    const macs = (kind: string) =>
      red1.received
        .filter((frame) => describeFrame(frame) === kind)
        .map((frame) => frame.toString("hex", 6, 12).replaceAll(/(..)(?=.)/g, "$1:"))
        .toSorted();
    expect(macs("arp 2")).toEqual(answersTo(targets));
    expect(macs("icmp6 136")).toEqual(answersTo(targets6));
    const receivedBy = (kind: string) =>
      hosts.sets.flatMap((set) =>
        set.received
          .filter((frame) => describeFrame(frame) === kind)
          .map((frame) => ({ set, address: solicitedAddress(frame).toString("hex") })),
      );
    expect(receivedBy("arp 1")).toEqual([]);
    // In the kernel's datapath, the port with the address receives the request and answers.
    const solicited = receivedBy("icmp6 135");
    expect(solicited).toHaveLength(datapath === "netdev" ? 0 : 3);
    for (const { set, address } of solicited) {
      const own = [set.ipv6, linkLocalOf(set.mac)].map((one) => addressBytes(one).toString("hex"));
      expect(own).toContain(address);
      expect(set.network).toBe(red);
    }
  });
});

describe("new flows", () => {
  it("leave open connections and counters of other flows alone", async () => {
    const onOneHost = await red1.connect(red3.ipv4);
    const acrossHosts = await red1.connect(red2.ipv6);
    expect(await onOneHost("before")).toBe("red-3:before");
    expect(await acrossHosts("before")).toBe("red-2:before");
    const packets = async () => {
      const dump = await hosts.first.ovs.ovs("ovs-ofctl", "dump-flows", "berth0", "table=3");
      const line = dump.split("\n").find((one) => one.includes(`dl_dst=${red2.mac}`));
      return Number(/n_packets=(\d+)/.exec(line ?? "")?.[1]);
    };
    const before = await packets();
    expect(before).toBeGreaterThan(0);

    const added = await hosts.addSet(hosts.second, red, 5);
    await hosts.apply();
    expect(await packets()).toBeGreaterThanOrEqual(before);
    expect(await onOneHost("after")).toBe("red-3:after");
    expect(await acrossHosts("after")).toBe("red-2:after");
    expect(await red1.probe("tcp", added.ipv4)).toBe("red-5:hello");
    expect(await added.probe("tcp", red3.ipv6)).toBe("red-3:hello");
  });

  it("restore the network after a crash of the switch, with its open connections", async () => {
    const connection = await red1.connect(red2.ipv4);
    expect(await connection("before")).toBe("red-2:before");
    await hosts.first.ovs.killSwitch();
    await hosts.first.ovs.startSwitch();
    await hosts.first.switchPort.ensureBridge(signal); // waits for the daemon
    expect(await hosts.first.switchPort.countFlows(signal)).toBe(0);
    expect(await red1.probe("icmp", red3.ipv4, { timeoutMs: silenceMs })).toMatch(/^error: /);
    await hosts.apply();
    expect(await connection("after")).toBe("red-2:after");
    expect(await red1.probe("tcp", red3.ipv4)).toBe("red-3:hello");
  });

  it("are compiled, applied and changed in thousands, and report the times", async () => {
    // A remote port with two addresses has four flows.
    const remotePorts = Array.from({ length: 2_480 }, (_, index) => ({
      mac: `0a:00:0a:41:${[index >> 8, index & 255].map(toHex).join(":")}`,
      addresses: [`10.65.${index >> 8}.${index & 255}`, `fd01::${index.toString(16)}`],
      tunnelAddress: hosts.second.tunnelAddress,
    }));
    const timed = async <T>(work: () => Promise<T>) => {
      const startedAtMs = performance.now();
      const result = await work();
      return { result, ms: Math.round(performance.now() - startedAtMs) };
    };
    const { switchPort } = hosts.first;
    const replace = (flows: readonly string[]) =>
      timed(() => switchPort.replaceFlows(flows, signal)).then(({ ms }) => ms);
    const { result, ms: compileMs } = await timed(() => hosts.compile(hosts.first, remotePorts));
    const lines = result.map(renderFlow);
    const times = {
      flows: lines.length,
      compileMs,
      allMs: await replace(lines),
      noneMs: await replace(lines),
      oneMs: await replace(lines.slice(1)),
    };
    console.log(`network flows: ${JSON.stringify(times)}`);
    expect(lines.length).toBeGreaterThan(10_000);
    expect(await switchPort.countFlows(signal)).toBe(lines.length - 1);
    expect(await red1.probe("tcp", red2.ipv4)).toBe("red-2:hello");
    await hosts.apply();
    expect(await switchPort.countFlows(signal)).toBe((await hosts.compile(hosts.first)).length);
  });

  const toHex = (byte: number) => byte.toString(16).padStart(2, "0");
});
