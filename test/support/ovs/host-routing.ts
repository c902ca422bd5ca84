import { execFile } from "node:child_process";
import { promisify } from "node:util";
import {
  createHostUplink,
  type HostUplinkOptions,
} from "../../../src/host-adapters/ovs/host-uplink.ts";
import { nameServerAddress } from "../../../src/network-driver/flows/compile-flows.ts";
import { GATEWAY_MAC, UPLINK_MAC } from "../../../src/network-driver/flows/flow.ts";
import type { Uplink } from "../../../src/network-driver/ports/uplink.ts";
import { noPortHolder } from "../network/no-port-holder.ts";
import { type FakeSet, startFakeSet } from "./fake-set.ts";
import {
  datapath,
  gateway,
  type TestHost,
  type TestSet,
  uplinkFirstAddress,
  uplinkPort,
} from "./test-hosts.ts";

const run = promisify(execFile);
const { signal } = new AbortController();

/** The end of the uplink in the routing of a host. */
export const uplinkEnd = {
  interfaceName: "bu-host",
  gatewayMac: GATEWAY_MAC,
  nameServerAddress: nameServerAddress(uplinkFirstAddress),
};

/** The uplink of a host of TestHosts. `setCommandRunner` decides which host it changes. */
export function createTestUplink(
  options: Pick<HostUplinkOptions, "outboundInterfaces" | "openingsPerSecondMax"> = {},
): Uplink {
  return createHostUplink({
    ...options,
    bridge: "berth0",
    firstAddress: uplinkFirstAddress,
    tunnelUdpPort: 4_789,
    portHolder: noPortHolder,
  });
}

/** Runs a program in a namespace. */
export function runInNamespace(namespace: string, program: string, ...args: string[]) {
  return run("ip", ["netns", "exec", namespace, program, ...args]);
}

/** Another machine or container beside the host, without a route to any set. */
export async function addNeighbor(
  hostNamespace: string,
  { name, address, hostSide }: { name: string; address: string; hostSide: string },
): Promise<FakeSet> {
  const neighbor = await startFakeSet({
    name,
    namespace: `${hostNamespace}-${name}`,
    hostNamespace,
    hostEnd: name,
    mac: `0a:00:00:00:01:${String(name.length).padStart(2, "0")}`,
    addresses: [`${address}/24`],
    mtu: 1_500,
    disablesChecksumOffload: false,
  });
  // The support code closes the host's end for sets. This one is an interface of the host.
  const open = `net.ipv4.conf.${name}.arp_ignore=0`;
  await runInNamespace(hostNamespace, "sysctl", "-qw", open);
  await runInNamespace(hostNamespace, "ip", "address", "add", `${hostSide}/24`, "dev", name);
  return neighbor;
}

/** Adds the link of the uplink, which forwards, and a default route for each of these sets. */
export async function addUplink(host: TestHost, sets: readonly TestSet[]): Promise<void> {
  const onHost = (program: string, ...args: string[]) =>
    runInNamespace(host.namespace, program, ...args);
  const { interfaceName } = uplinkEnd;
  await onHost("sysctl", "-qw", "net.ipv4.ip_forward=1");
  const peer = ["peer", "name", interfaceName, "address", UPLINK_MAC];
  await onHost("ip", "link", "add", uplinkPort, "up", "type", "veth", ...peer);
  if (datapath === "netdev") await onHost("ethtool", "-K", interfaceName, "tx", "off");
  await host.switchPort.addPort({ name: uplinkPort, externalIds: {} }, signal);
  for (const set of sets) await set.run("ip", "route", "add", "default", "via", gateway);
}
