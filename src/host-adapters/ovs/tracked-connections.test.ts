import { expect, it } from "vitest";
import type { Translation } from "../../network-driver/ports/switch-port.ts";
import { endTrackedConnections, listTranslations } from "./tracked-connections.ts";

const dumpOf = (count: number) =>
  Array.from({ length: count }, (_, index) => {
    const port = index + 1;
    const original = `orig=(src=10.64.0.1,dst=10.64.0.2,sport=9000,dport=${port})`;
    return `udp,${original},reply=(src=10.64.0.2,dst=10.64.0.1,sport=${port},dport=9000),zone=7`;
  });

/** Ends all connections of a switch that forgets them by `flush-conntrack` with these arguments. */
async function endAll(count: number): Promise<string[][]> {
  const calls: string[][] = [];
  await endTrackedConnections(
    { zone: 7, isSelected: () => true },
    {
      dump: async (onLine) =>
        dumpOf(Math.max(0, count - calls.length)).forEach((line) => onLine(line)),
      flush: async (...filters) => calls.push([...filters]),
    },
  );
  return calls;
}

it("removes selected connections one kind after another", async () => {
  expect(await endAll(3)).toHaveLength(3);
  expect(await endAll(448)).toHaveLength(448);
});

it("removes all connections of the zone if the selected ones are of too many kinds", async () => {
  expect(await endAll(449)).toEqual([[]]);
});

it("removes connections of protocols that have only a number, and no ping over IPv6", async () => {
  const [from, to] = ["fd00::1", "fd00::2"];
  const ends = `orig=(src=${from},dst=${to}),reply=(src=${to},dst=${from}),zone=7`;
  let lines = ["47", "icmpv6", "unknown"].map((protocol) => `${protocol},${ends}`);
  const calls: string[][] = [];
  await endTrackedConnections(
    { zone: 7, isSelected: ({ protocol }) => protocol === "other" },
    {
      dump: async (onLine) => lines.forEach((line) => onLine(line)),
      flush: async (...filters) => {
        calls.push([...filters]);
        lines = [];
      },
    },
  );
  expect(calls).toEqual([
    ["ct_ipv6_src=fd00::1,ct_nw_proto=47", "ct_ipv6_src=fd00::2,ct_nw_proto=47"],
  ]);
});

it("lists each translation once, and no connection without one", async () => {
  const line = (protocol: string, to: string, reached: string, port = 9_000) =>
    `${protocol},orig=(src=10.64.0.1,dst=${to},sport=${port},dport=53),reply=(src=${reached},dst=10.64.0.1,sport=53,dport=${port}),zone=7`;
  const lines = [
    line("udp", "10.64.1.1", "10.64.0.2"),
    line("udp", "10.64.1.1", "10.64.0.2", 9_001),
    line("tcp", "10.64.0.3", "10.64.0.3"),
    line("tcp", "10.64.1.1", "10.64.0.4"),
    line("tcp", "fd00::1:1", "fd00::5"),
  ];
  const dump = async (onLine: (line: string) => void) => lines.forEach((each) => onLine(each));
  expect(await listTranslations({ dump, flush: async () => undefined })).toEqual([
    { destination: "10.64.1.1", translatedTo: "10.64.0.2" },
    { destination: "10.64.1.1", translatedTo: "10.64.0.4" },
    { destination: "fd00::1:1", translatedTo: "fd00::5" },
  ]);
});

/** A switch whose connections are `lines` until the first flush, and `left` after it. */
function createCommands(lines: readonly string[], left: readonly string[]) {
  const calls: string[][] = [];
  const dump = async (onLine: (line: string) => void) =>
    (calls.length === 0 ? lines : left).forEach((each) => onLine(each));
  const flush = async (...filters: string[]) => calls.push([...filters]);
  return { calls, commands: { dump, flush } };
}

it("removes the connections to stale destinations, also without a translation, and no others", async () => {
  const line = (from: string, to: string) =>
    `tcp,orig=(src=${from},dst=${to},sport=9000,dport=80),reply=(src=${to},dst=10.64.9.9,sport=80,dport=9000),zone=8`;
  const left = [
    line("203.0.113.1", "10.64.0.3"),
    // By a service address, to the same set.
    line("203.0.113.1", "10.64.1.1").replace("src=10.64.1.1", "src=10.64.0.2"),
  ];
  const stale = [line("203.0.113.1", "10.64.0.2"), line("203.0.113.2", "10.64.0.2")];
  const { calls, commands } = createCommands([...stale, ...left], left);
  const isStale = ({ destination, translatedTo }: Translation) =>
    destination === "10.64.0.2" && translatedTo === "10.64.0.2";
  await endTrackedConnections({ zone: 8, isStale }, commands);
  expect(calls).toEqual([["ct_nw_dst=10.64.0.2", "ct_nw_src=10.64.0.2"]]);
});

it("removes the connections to a port if the selected ones are of too many senders", async () => {
  const clients = Array.from({ length: 449 }, (_, index) => `203.0.${index >> 8}.${index & 255}`);
  const line = (from: string, port: number) =>
    `tcp,orig=(src=${from},dst=198.19.0.7,sport=9000,dport=443),reply=(src=10.64.0.2,dst=${from},sport=${port},dport=9000),zone=7`;
  const lines = [...clients.map((from) => line(from, 80)), line("203.0.113.1", 81)];
  const { calls, commands } = createCommands(lines, []);
  await endTrackedConnections({ zone: 7, isSelected: ({ port }) => port === 80 }, commands);
  expect(calls).toEqual([
    ["ct_nw_dst=198.19.0.7,ct_nw_proto=6", "ct_nw_src=10.64.0.2,ct_nw_proto=6,ct_tp_src=80"],
  ]);
});
