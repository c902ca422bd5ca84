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
  table: "raw" | "filter" | "nat";
  name: string;
  /** Rules without `-A` and the name, in order. */
  rules: readonly string[];
  /** Each is a chain of the table, followed by a match. */
  jumps: readonly (readonly [chain: string, ...match: string[]])[];
}

/**
 * Ensures that a chain has exactly these rules, which one transaction replaces, and that each jump
 * to it exists. A missing jump becomes the first rule.
 */
export async function ensureChain(
  program: FilterProgram,
  { table, name, rules, jumps }: FilterChain,
  signal: AbortSignal,
): Promise<void> {
  const lines = [`*${table}`, `:${name} - [0:0]`, ...rules.map((rule) => `-A ${name} ${rule}`)];
  const input = `${[...lines, "COMMIT"].join("\n")}\n`;
  await runForFilter(`${program}-restore`, [...waitArgs, "--noflush"], signal, input);
  for (const [from, ...match] of jumps) {
    const rule = [from, ...match, "-j", name];
    const hasJump = await runForFilter(program, [...waitArgs, "-t", table, "-C", ...rule], signal)
      .then(() => true)
      .catch(() => false);
    if (!hasJump) await runForFilter(program, [...waitArgs, "-t", table, "-I", ...rule], signal);
  }
}

/** Runs a program that reads or changes the network of the host. Rejects with SwitchError. */
export async function runForFilter(
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
    throw new SwitchError(`Cannot change the packet filter of the host: ${error.message}`, {
      cause: error,
    });
  }
}
