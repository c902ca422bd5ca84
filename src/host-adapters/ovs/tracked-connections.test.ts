import { expect, it } from "vitest";
import { endTrackedConnections, listTranslations } from "./tracked-connections.ts";

const dumpOf = (count: number) =>
  Array.from({ length: count }, (_, index) => {
    const port = index + 1;
    const original = `orig=(src=10.64.0.1,dst=10.64.0.2,sport=9000,dport=${port})`;
    return `udp,${original},reply=(src=10.64.0.2,dst=10.64.0.1,sport=${port},dport=9000),zone=7`;
  }).join("\n");

/** Ends all connections of a switch that forgets them by `flush-conntrack` with these arguments. */
async function endAll(count: number): Promise<string[][]> {
  const calls: string[][] = [];
  const run = async (command: string, ...args: string[]): Promise<string> => {
    if (command === "dump-conntrack") return dumpOf(Math.max(0, count - calls.length));
    calls.push(args);
    return "";
  };
  await endTrackedConnections({ zone: 7, isSelected: () => true }, run);
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
  let dump = ["47", "icmpv6", "unknown"].map((protocol) => `${protocol},${ends}`).join("\n");
  const calls: string[][] = [];
  const run = async (command: string, ...args: string[]): Promise<string> => {
    if (command === "dump-conntrack") return dump;
    calls.push(args);
    dump = "";
    return "";
  };
  await endTrackedConnections({ zone: 7, isSelected: ({ protocol }) => protocol === "other" }, run);
  expect(calls).toEqual([
    ["ct_ipv6_src=fd00::1,ct_nw_proto=47", "ct_ipv6_src=fd00::2,ct_nw_proto=47"],
  ]);
});

it("lists each translation once, and no connection without one", async () => {
  const line = (protocol: string, to: string, reached: string, port = 9_000) =>
    `${protocol},orig=(src=10.64.0.1,dst=${to},sport=${port},dport=53),reply=(src=${reached},dst=10.64.0.1,sport=53,dport=${port}),zone=7`;
  const dump = [
    line("udp", "10.64.1.1", "10.64.0.2"),
    line("udp", "10.64.1.1", "10.64.0.2", 9_001),
    line("tcp", "10.64.0.3", "10.64.0.3"),
    line("tcp", "10.64.1.1", "10.64.0.4"),
    line("tcp", "fd00::1:1", "fd00::5"),
  ];
  expect(await listTranslations(async () => dump.join("\n"))).toEqual([
    { destination: "10.64.1.1", translatedTo: "10.64.0.2" },
    { destination: "10.64.1.1", translatedTo: "10.64.0.4" },
    { destination: "fd00::1:1", translatedTo: "fd00::5" },
  ]);
});
