import { SwitchError } from "../../network-driver/ports/switch-port.ts";
import { CommandError, runCommand } from "../exec.ts";

/** Docker needs both programs, so each host has them. */
export const iptables = "/usr/sbin/iptables";
export const ip6tables = "/usr/sbin/ip6tables";

export type FilterProgram = typeof iptables | typeof ip6tables;

const commandTimeoutMs = 5_000;
/** The programs wait this long for each other's lock. */
const waitArgs = ["-w", "4"];

/** Rules in a chain of their own, and the rules of other chains that lead to it. */
export interface FilterChain {
  table: "raw" | "mangle" | "filter" | "nat";
  name: string;
  /** Rules without `-A` and the name, in order. */
  rules: readonly string[];
  /** Each is a chain of the table, followed by a match. */
  jumps: readonly (readonly [chain: string, ...match: string[]])[];
  /** Missing jumps are added behind those to this chain, which operators fill. */
  behind?: string;
}

/**
 * Ensures that a chain has exactly these rules, which one transaction replaces, and that each jump
 * to it exists. A missing jump becomes the first rule, or the first one behind `behind`.
 */
export async function ensureChain(
  program: FilterProgram,
  { table, name, rules, jumps, behind }: FilterChain,
  signal: AbortSignal,
): Promise<void> {
  const lines = [`*${table}`, `:${name} - [0:0]`, ...rules.map((rule) => `-A ${name} ${rule}`)];
  const input = `${[...lines, "COMMIT"].join("\n")}\n`;
  await runOnHost(`${program}-restore`, [...waitArgs, "--noflush"], signal, input);
  const run = (...args: string[]) =>
    runOnHost(program, [...waitArgs, "-t", table, ...args], signal);
  for (const [from, ...match] of jumps) {
    const jump = [...match, "-j", name];
    const hasJump = await run("-C", from, ...jump).then(() => true, isMissingRule);
    if (hasJump) continue;
    const place = behind === undefined ? 1 : findPlaceBehind(behind, await run("-S", from));
    await run("-I", from, String(place), ...jump);
  }
}

/** The place behind the last jump to `chain`, in the rules that `-S` has listed. */
function findPlaceBehind(chain: string, listed: string): number {
  const rules = listed.split("\n").filter((line) => line.startsWith("-A "));
  return rules.findLastIndex((rule) => rule.endsWith(` -j ${chain}`)) + 2;
}

/** Returns false if `-C` failed because the rule does not exist. Rejects for other errors. */
function isMissingRule(error: unknown): boolean {
  if (error instanceof SwitchError && error.cause instanceof CommandError)
    if (error.cause.exitCode === 1) return false;
  throw error;
}

/** Runs a program that reads or changes the network of the host. Rejects with SwitchError. */
export async function runOnHost(
  program: string,
  args: readonly string[],
  signal: AbortSignal,
  input?: string,
): Promise<string> {
  try {
    const options = { timeoutMs: commandTimeoutMs, signal };
    return await runCommand(program, args, input === undefined ? options : { ...options, input });
  } catch (error) {
    if (!(error instanceof CommandError)) throw error;
    throw new SwitchError(`Linux refused to change the network of the host: ${error.message}`, {
      cause: error,
    });
  }
}
