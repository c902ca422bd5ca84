import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { assignConntrackZones } from "../../src/network-driver/flows/assign-conntrack-zones.ts";
import type { Translation } from "../../src/network-driver/ports/switch-port.ts";
import { SERVICE_MAC } from "../../src/contracts/common/mac-address.ts";
import { udpFrame } from "../support/ovs/frames.ts";
import { datapath, TestHosts, type TestNetwork, type TestSet } from "../support/ovs/test-hosts.ts";

const { signal } = new AbortController();
const red: TestNetwork = { networkId: "red", vni: 4097 };
const blue: TestNetwork = { networkId: "blue", vni: 4098 };
const zone = assignConntrackZones([red.vni, blue.vni]).get(red.vni) ?? 0;
/** The service address. */
const ipv4 = "10.64.1.1";
const ipv6 = "fd00::1:1";
/** Long for a packet on this machine, because these answers must not arrive. */
const silenceMs = 1_000;

/**
 * Two hosts. The service has a set on the first host, and two on the second one. Each host has a
 * client, and blue is a network with a service of the same address.
 */
let hosts: TestHosts;
let client1: TestSet;
let client2: TestSet;
let web3: TestSet;
let web4: TestSet;
let web5: TestSet;
let blue1: TestSet;
let blue2: TestSet;

beforeAll(async () => {
  hosts = await TestHosts.start();
  client1 = await hosts.addSet(hosts.first, red, 1);
  client2 = await hosts.addSet(hosts.second, red, 2);
  web3 = await hosts.addSet(hosts.first, red, 3);
  web4 = await hosts.addSet(hosts.second, red, 4);
  web5 = await hosts.addSet(hosts.second, red, 5);
  blue1 = await hosts.addSet(hosts.first, blue, 1);
  blue2 = await hosts.addSet(hosts.second, blue, 2);
});
afterAll(() => hosts.close());
beforeEach(() => serve([web3, web4, web5]));

/** Applies the service with these endpoints. The sets of `members` are its sets. */
async function serve(
  endpoints: readonly TestSet[],
  { members = [web3, web4, web5] }: { members?: readonly TestSet[] } = {},
): Promise<void> {
  const toService = (serviceId: string, sets: readonly TestSet[]) => ({
    serviceId,
    addresses: [ipv4, ipv6],
    members: sets.map((set) => ({
      addresses: [set.ipv4, set.ipv6],
      isEndpoint: endpoints.includes(set) || set.network === blue,
    })),
  });
  hosts.services.set(red.vni, [toService("svc_red", members)]);
  hosts.services.set(blue.vni, [toService("svc_blue", [blue2])]);
  await hosts.apply();
}

/** Opens connections and returns the sets that answered, without repetition. */
async function answerers(
  from: TestSet,
  address: string,
  { count = 30, protocol = "tcp" }: { count?: number; protocol?: "tcp" | "udp" } = {},
): Promise<string[]> {
  const names = new Set<string>();
  for (let index = 0; index < count; index += 1) names.add(await from.probe(protocol, address));
  return [...names].map((answer) => answer.replace(":hello", "")).toSorted();
}

describe("a service address", () => {
  it("is reachable by TCP, UDP and ICMP, on the client's host and on others", async () => {
    for (const web of [web3, web4, web5]) {
      await serve([web]);
      for (const client of [client1, client2])
        for (const address of [ipv4, ipv6])
          for (const protocol of ["tcp", "udp", "icmp"] as const)
            expect([client.name, protocol, await client.probe(protocol, address)]).toEqual([
              client.name,
              protocol,
              protocol === "icmp" ? "hello" : `${web.name}:hello`,
            ]);
    }
  });

  it("carries more than a packet holds", async () => {
    const text = "0123456789".repeat(30_000);
    for (const web of [web3, web4]) {
      await serve([web]);
      for (const address of [ipv4, ipv6])
        expect(await client1.probe("tcp", address, { text })).toBe(`${web.name}:${text}`);
      const datagram = text.slice(0, 6_000); // in fragments
      for (const address of [ipv4, ipv6])
        expect(await client1.probe("udp", address, { text: datagram })).toBe(
          `${web.name}:${datagram}`,
        );
    }
  });

  it("balances connections over all endpoints", async () => {
    const all = [web3, web4, web5].map(({ name }) => name);
    for (const client of [client1, client2])
      for (const address of [ipv4, ipv6])
        for (const protocol of ["tcp", "udp"] as const)
          expect(await answerers(client, address, { count: 40, protocol })).toEqual(all);
  });

  it("belongs to its network", async () => {
    expect(await answerers(blue1, ipv4)).toEqual([blue2.name]);
    expect(await answerers(blue1, ipv6)).toEqual([blue2.name]);
  });

  it("leads a set of its own service to the others", async () => {
    for (const address of [ipv4, ipv6]) {
      expect(await answerers(web3, address)).toEqual([web4.name, web5.name]);
      expect(await answerers(web4, address)).toEqual([web3.name, web5.name]);
    }
    await serve([web3]);
    expect(await web3.probe("tcp", ipv4, { timeoutMs: silenceMs })).toMatch(/^error: /);
  });

  it("does not answer without an endpoint, and answers again with one", async () => {
    await serve([]);
    const probes = [ipv4, ipv6].map((address) =>
      client1.probe("udp", address, { timeoutMs: silenceMs }),
    );
    for (const answer of await Promise.all(probes)) expect(answer).toMatch(/^error: /);
    await serve([web5]);
    expect(await answerers(client1, ipv4, { count: 3 })).toEqual([web5.name]);
  });

  it.runIf(datapath === "netdev")("is found with the flows for the kernel's datapath", async () => {
    await hosts.apply({ datapath: "system" });
    for (const client of [client1, client2]) {
      await client.run("ip", "neighbor", "flush", "all");
      expect(await answerers(client, ipv6)).toHaveLength(3);
    }
  });
});

describe("an open connection", () => {
  it("stays on its set when the set leaves the endpoints, and new ones avoid the set", async () => {
    for (const client of [client1, client2])
      for (const address of [ipv4, ipv6])
        for (const web of [web3, web4]) {
          await serve([web]);
          const send = await client.connect(address);
          expect(await send("before")).toBe(`${web.name}:before`);
          await serve([web5]);
          expect(await send("after")).toBe(`${web.name}:after`);
          expect(await answerers(client, address, { count: 5 })).toEqual([web5.name]);
          await serve([]);
          expect(await send("later")).toBe(`${web.name}:later`);
        }
  });

  it("stays on its set before the first answer", async () => {
    await serve([web4]);
    const text = "without an answer";
    const send = (to: string) =>
      client1.sendFrame(
        udpFrame({
          from: client1.mac,
          to,
          source: client1.ipv4,
          destination: ipv4,
          destinationPort: 7999,
          text,
        }),
      );
    const received = ({ received: frames }: TestSet) =>
      frames.filter((frame) => frame.includes(text) && frame[23] === 17).length;
    await send(SERVICE_MAC);
    await expect.poll(() => received(web4)).toBe(1);
    await serve([web5]);
    await send(SERVICE_MAC);
    await send(SERVICE_MAC);
    await expect.poll(() => received(web4)).toBe(3);
    expect(received(web5)).toBe(0);
  });
});

describe("a client's port that is used again", () => {
  it("reaches a running set once the connections of a deleted set have ended", async () => {
    for (const [index, address] of [ipv4, ipv6].entries()) {
      const sourcePort = 9_100 + index;
      await serve([web4]);
      const probe = (timeoutMs?: number) =>
        client1.probe("udp", address, { sourcePort, ...(timeoutMs && { timeoutMs }) });
      expect(await probe()).toBe("red-4:hello");
      await serve([web5], { members: [web3, web5] });
      expect(await probe(silenceMs)).toMatch(/^error: /);
      const deleted = index === 0 ? web4.ipv4 : web4.ipv6;
      const isStale = ({ destination, translatedTo }: Translation) =>
        destination !== translatedTo && translatedTo === deleted;
      await hosts.first.switchPort.endConnections({ zone, isStale }, signal);
      expect(await probe()).toBe("red-5:hello");
    }
  });

  it("reaches a set directly and through the service address", async () => {
    await serve([web4]);
    for (const [service, direct] of [
      [ipv4, web4.ipv4],
      [ipv6, web4.ipv6],
    ] as const)
      for (const protocol of ["tcp", "udp"] as const)
        for (let sourcePort = 9_200; sourcePort < 9_208; sourcePort += 1)
          for (const address of sourcePort % 2 ? [service, direct] : [direct, service])
            expect(await client1.probe(protocol, address, { sourcePort, timeoutMs: 5_000 })).toBe(
              "red-4:hello",
            );
  });
});

it("no connection fails while the endpoints change", async () => {
  const loads = [];
  for (const [client, address, protocol] of [
    [client1, ipv4, "tcp"],
    [client2, ipv6, "tcp"],
    [client2, ipv4, "udp"],
    [client1, ipv6, "udp"],
  ] as const)
    loads.push(await client.startLoad(protocol, address));
  const all = [web3, web4, web5];
  for (let round = 0; round < 12; round += 1) {
    await serve(all.filter((_, index) => index !== round % 3));
    await serve(all.filter((_, index) => index === round % 3));
  }
  for (const stop of loads) {
    const answers = await stop();
    expect(Object.keys(answers).toSorted()).toEqual(all.map(({ name }) => name));
  }
});
