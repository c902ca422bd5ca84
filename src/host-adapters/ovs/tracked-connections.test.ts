import { expect, it } from "vitest";
import { endTrackedConnections } from "./tracked-connections.ts";

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
