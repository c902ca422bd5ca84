import { expect, it } from "vitest";
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
