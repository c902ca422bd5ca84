import { afterEach, expect, it } from "vitest";
import { setCommandRunner } from "../../src/host-adapters/exec.ts";
import { noPortHolder } from "../support/network/no-port-holder.ts";
import { createHostUplink } from "../../src/host-adapters/ovs/host-uplink.ts";

const { signal } = new AbortController();
const end = {
  interfaceName: "bu-host",
  gatewayMac: "0a:07:00:00:00:01",
  nameServerAddress: "198.19.255.255",
};

afterEach(() => setCommandRunner(undefined));

it("the newest list of published ports is committed last, even while rules are ensured", async () => {
  const uplink = createHostUplink({
    bridge: "berth0",
    firstAddress: "198.19.0.0",
    tunnelUdpPort: 4_789,
    portHolder: noPortHolder,
  });
  const committed: string[] = [];
  const waiting: (() => void)[] = [];
  let isBlocked = false;
  setCommandRunner(async (program, _args, { input = "" }) => {
    if (program.endsWith("/ip")) return "[]";
    if (!input.includes("BERTH-PUB-berth0")) return "";
    if (isBlocked) await new Promise<void>((resolve) => waiting.push(resolve));
    committed.push(/--dport (\d+)/.exec(input)?.[1] ?? "none");
    return "";
  });
  const port = (hostPort: number) => [
    { protocol: "tcp" as const, hostPort, address: "198.19.0.7" },
  ];
  await uplink.ensure(end, signal);
  await uplink.publish(port(8_001), signal);
  isBlocked = true;
  const ensured = uplink.ensure(end, signal);
  await expect.poll(() => waiting.length).toBe(1);
  isBlocked = false;
  const published = uplink.publish(port(8_002), signal);
  waiting[0]?.();
  await Promise.all([ensured, published]);
  expect(committed.at(-1)).toBe("8002");
});

it("a port that another program has is not published, and each convergence tries it again", async () => {
  const taken = new Set(["tcp/8001"]);
  const uplink = createHostUplink({
    bridge: "berth0",
    firstAddress: "198.19.0.0",
    tunnelUdpPort: 4_789,
    portHolder: { hold: async () => taken, isUnused: async () => true },
  });
  const committed: string[][] = [];
  setCommandRunner(async (program, _args, { input = "" }) => {
    if (program.endsWith("/ip")) return "[]";
    if (!input.includes("BERTH-PUB-berth0")) return "";
    committed.push([...input.matchAll(/--dport (\d+)/g)].map(([, port = ""]) => port));
    return "";
  });
  const port = (hostPort: number) => ({
    protocol: "tcp" as const,
    hostPort,
    address: "198.19.0.7",
  });
  await uplink.ensure(end, signal);
  await uplink.publish([port(8_001), port(8_002)], signal);
  expect(uplink.takenPorts).toEqual([port(8_001)]);
  expect(committed.at(-1)).toEqual(["8002"]);
  taken.clear();
  await uplink.ensure(end, signal);
  expect(uplink.takenPorts).toEqual([]);
  expect(committed.at(-1)).toEqual(["8001", "8002"]);
});
