import { execFile } from "node:child_process";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { networkInterfaces } from "node:os";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, it } from "vitest";
import { createVethLinks } from "../../src/host-adapters/links/veth-links.ts";
import { arpFrame, describeFrame, udpFrame } from "../support/ovs/frames.ts";
import { type FakeSet, startFakeSet } from "../support/ovs/fake-set.ts";

const run = promisify(execFile);
const { signal } = new AbortController();
const links = createVethLinks({ disablesChecksumOffload: true });
const number = process.pid % 100_000;
const link = { hostEnd: `bh-t${number}`, containerEnd: `bc-t${number}` };
const mac = "0a:00:0a:63:00:02";
let set: FakeSet;

beforeAll(async () => {
  await links.ensure({ ...link, mac, mtu: 1_450 }, signal);
  await links.disableChecksumOffload(link.containerEnd, signal);
  set = await startFakeSet({
    name: "guest",
    namespace: `berth-links-${number}`,
    ...link,
    mac,
    addresses: ["10.99.0.2/24"],
    mtu: 1_450,
    disablesChecksumOffload: false,
  });
});
afterAll(async () => {
  await set.close();
  await links.remove(link.hostEnd, signal);
});

it("a link leads to no address of the host", async () => {
  const hostMac = (await run("cat", [`/sys/class/net/${link.hostEnd}/address`])).stdout.trim();
  const address = findAddress();
  const socket = createSocket("udp4");
  const messages: string[] = [];
  socket.on("message", (text) => messages.push(text.toString()));
  socket.bind(0, "0.0.0.0");
  await once(socket, "listening");
  const { port } = socket.address();

  const packet = { from: mac, source: "10.99.0.2", destinationPort: port, text: "from the set" };
  for (const to of [hostMac, "ff:ff:ff:ff:ff:ff"])
    for (const destination of [address, "255.255.255.255", "224.0.0.1"])
      await set.sendFrame(udpFrame({ ...packet, to, destination }));
  for (const senderAddress of ["10.99.0.2", address])
    await set.sendFrame(
      arpFrame({ from: mac, operation: 1, senderMac: mac, senderAddress, targetAddress: address }),
    );
  const marker = createSocket("udp4");
  marker.send("from the host", port, "127.0.0.1");
  await expect.poll(() => messages).toContain("from the host");
  marker.close();
  socket.close();

  expect(messages).toEqual(["from the host"]);
  // The host sends nothing by IPv6, either: no router solicitation and no report of groups.
  expect(set.received.map(describeFrame)).toEqual([]);
});

/** An IPv4 address of this machine besides loopback. */
function findAddress(): string {
  const all = Object.values(networkInterfaces()).flatMap((addresses) => addresses ?? []);
  const found = all.find(({ family, internal }) => family === "IPv4" && !internal);
  if (!found) throw new Error("this machine has no IPv4 address");
  return found.address;
}
