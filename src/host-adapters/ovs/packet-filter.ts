import type { z } from "zod";
import { SwitchError } from "../../network-driver/ports/switch-port.ts";
import { CommandError, runCommand } from "../exec.ts";

export const ip = "/sbin/ip";
/** Docker needs both programs, so each host has them. */
export const iptables = "/usr/sbin/iptables";
export const ip6tables = "/usr/sbin/ip6tables";

export type FilterProgram = typeof iptables | typeof ip6tables;

const commandTimeoutMs = 5_000;
/** In seconds: how long a program waits for the lock that all programs of iptables share. */
const waitArgs = ["-w", "4"];

/** A chain of its own with rules, and the rules of other chains that jump to it. */
export interface FilterChain {
  table: "raw" | "mangle" | "filter" | "nat";
  name: string;
  /** Rules without `-A` and the name, in order. */
  rules: readonly string[];
  /** Each jump is in a chain of the same table, for packets that have the match. */
  jumps: readonly (readonly [chain: string, ...match: string[]])[];
  /** Missing jumps are added after the jump to this chain, such as one that operators fill. */
  behind?: string;
}

/**
 * Ensures that a chain has exactly these rules, and that each jump to it exists. Replaces the rules
 * in one transaction. Inserts a missing jump as the first rule of its chain, or directly after the
 * jump to `behind`. An existing jump stays where it is.
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

/** Returns the rule number after the last jump to `chain`, in the rules that `-S` has listed. */
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

/** A name of an interface that rules of the packet filter may contain. */
export const interfacePattern = /^[\w.@:-]{1,15}$/;

/** Reads the JSON of `ip`, which prints nothing or an empty list if it finds nothing. */
export async function readIpJson<T>(
  schema: z.ZodType<T[]>,
  args: readonly string[],
  signal: AbortSignal,
): Promise<T[]> {
  const text = await runOnHost(ip, ["-json", ...args], signal);
  return schema.parse(text.trim() === "" ? [] : JSON.parse(text));
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
