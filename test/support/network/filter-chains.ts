import { execFile } from "node:child_process";
import { promisify } from "node:util";

const run = promisify(execFile);
const programs = ["/usr/sbin/iptables", "/usr/sbin/ip6tables"] as const;
const tables = ["raw", "mangle", "nat", "filter"] as const;

/** Returns those of these bridges of network drivers that have chains on the machine. */
export async function findFilteredBridges(bridges: readonly string[]): Promise<string[]> {
  const listed = await Promise.all(programs.map((program) => run(`${program}-save`)));
  const chains = listed.flatMap(({ stdout }) => stdout.split("\n").map(readChain));
  return bridges.filter((bridge) => chains.some((chain) => isOf(bridge, chain)));
}

/**
 * Removes the chains of a network driver from the machine, and the rules that jump to them. A
 * driver leaves them when it ends, but those of a test or a demo must not stay.
 */
export async function removeFilterChains(bridge: string): Promise<void> {
  for (const program of programs)
    for (const table of tables) await removeChains(bridge, program, table);
}

async function removeChains(bridge: string, program: string, table: string): Promise<void> {
  const change = (...args: string[]) => run(program, ["-w", "10", "-t", table, ...args]);
  const listed = await change("-S").catch(() => ({ stdout: "" })); // a kernel without this table
  const rules = listed.stdout.split("\n").map((line) => line.split(" "));
  const own = rules.flatMap(([command, chain = ""]) =>
    command === "-N" && isOf(bridge, chain) ? [chain] : [],
  );
  for (const [command, chain = "", ...rule] of rules)
    if (command === "-A" && !isOf(bridge, chain) && isOf(bridge, rule.at(-1)))
      await change("-D", chain, ...rule);
  for (const chain of own) await change("-F", chain);
  for (const chain of own) await change("-X", chain);
}

/** The chains of a network driver end with the name of its bridge. */
function isOf(bridge: string, chain = ""): boolean {
  return chain.startsWith("BERTH-") && chain.endsWith(bridge);
}

/** The name in a line of `iptables-save` such as `:BERTH-berth0 - [0:0]`. */
function readChain(line: string): string | undefined {
  return /^:(\S+) /.exec(line)?.[1];
}
