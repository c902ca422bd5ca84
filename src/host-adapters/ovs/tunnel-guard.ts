import { z } from "zod";
import { SwitchError } from "../../network-driver/ports/switch-port.ts";
import type { TunnelGuard } from "../../network-driver/ports/tunnel-guard.ts";
import { CommandError, runCommand } from "../exec.ts";

const ip = "/sbin/ip";
/** Docker needs both programs, so each host has them. */
const programs = ["/usr/sbin/iptables", "/usr/sbin/ip6tables"];
const commandTimeoutMs = 5_000;
/** The programs wait this long for each other's lock. */
const waitArgs = ["-w", "4", "-t", "raw"];

const addressesSchema = z.array(z.object({ ifname: z.string().optional() }));
const interfacePattern = /^[\w.@:-]{1,15}$/;

export interface TunnelGuardOptions {
  /** Names the chain, so that each bridge has its own. At most 15 characters. */
  bridge: string;
  udpPort: number;
}

/**
 * Rules of iptables in a chain of their own. They are in the table `raw` before any routing and
 * translation of addresses, so they see packets to this host and those that it forwards. Packets
 * that the host itself sends do not pass there.
 */
export function createTunnelGuard({ bridge, udpPort }: TunnelGuardOptions): TunnelGuard {
  const chain = `BERTH-${bridge}`;
  const jump = ["PREROUTING", "-p", "udp", "--dport", String(udpPort), "-j", chain];
  const ensureRules = async (
    program: string,
    trusted: string | undefined,
    signal: AbortSignal,
  ): Promise<void> => {
    // One transaction replaces the content of the chain.
    const accept = trusted === undefined ? [] : [`-A ${chain} -i ${trusted} -j RETURN`];
    const lines = ["*raw", `:${chain} - [0:0]`, ...accept, `-A ${chain} -j DROP`, "COMMIT"];
    await run(`${program}-restore`, ["-w", "4", "--noflush"], signal, `${lines.join("\n")}\n`);
    const hasJump = await run(program, [...waitArgs, "-C", ...jump], signal).then(
      () => true,
      () => false,
    );
    if (!hasJump) await run(program, [...waitArgs, "-I", ...jump], signal);
  };
  return {
    async ensure(tunnelAddress, signal) {
      const trusted =
        tunnelAddress === null ? undefined : await findInterface(tunnelAddress, signal);
      for (const program of programs) await ensureRules(program, trusted, signal);
    },
  };
}

async function findInterface(address: string, signal: AbortSignal): Promise<string> {
  const text = await run(ip, ["-json", "address", "show", "to", address], signal);
  const found = addressesSchema
    .parse(text.trim() === "" ? [] : JSON.parse(text))
    .find(({ ifname }) => ifname !== undefined)?.ifname;
  if (found !== undefined && interfacePattern.test(found)) return found;
  throw new SwitchError(`No interface of this host has the tunnel's address ${address}.`);
}

async function run(
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
    throw new SwitchError(`Cannot protect the tunnel: ${error.message}`, { cause: error });
  }
}
