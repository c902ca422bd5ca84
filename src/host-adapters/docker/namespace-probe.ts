import type { ProbeResult } from "../../agent/model/local-set.ts";
import { onAbort } from "../../lib/async/abort.ts";
import { startCommand } from "../exec.ts";
import { formatRequest, HttpAnswer } from "./http-probe.ts";
import { withinTimeout } from "./probe-timeout.ts";

export interface NamespaceEndpoint {
  address: string;
  port: number;
  path?: string | undefined;
  listProcesses: () => Promise<readonly number[]>;
  busyboxPath: string;
}

/** Node's names of the errors of `connect`, by the C library's texts. */
const errorNames: Readonly<Record<string, string>> = {
  "Connection refused": "ECONNREFUSED",
  "Connection timed out": "ETIMEDOUT",
  "Network is unreachable": "ENETUNREACH",
  "No route to host": "EHOSTUNREACH",
};

/**
 * Probes a set by a BusyBox that enters the network namespace of one of its processes: Node cannot.
 * A probe costs about 4 ms of CPU time, half of it in the agent. A container has at most one at a
 * time.
 */
export function probeInNamespace(
  endpoint: NamespaceEndpoint,
  timeoutSeconds: number,
  signal: AbortSignal,
): Promise<ProbeResult> {
  const { address, port, path, listProcesses, busyboxPath } = endpoint;
  return withinTimeout(timeoutSeconds, signal, (probeSignal, settle) => {
    const enter = async () => {
      const [pid] = await listProcesses();
      if (probeSignal.aborted) return;
      if (pid === undefined) {
        settle({ healthy: false, detail: "the container has no process" });
        return;
      }
      const connect = [busyboxPath, "nc", address, String(port)];
      const args = ["nsenter", `-n/proc/${pid}/ns/net`, ...connect];
      const command = { busyboxPath, args, probeSignal };
      if (path === undefined) probeByTcp(command, port, settle);
      else probeByHttp(command, { address, port, path }, settle);
    };
    enter().catch((error: unknown) => {
      const detail = error instanceof Error ? error.message : String(error);
      settle({ healthy: false, detail });
    });
  });
}

interface ProbeCommand {
  busyboxPath: string;
  args: readonly string[];
  probeSignal: AbortSignal;
}

function probeByTcp(
  { busyboxPath, args, probeSignal }: ProbeCommand,
  port: number,
  settle: (result: ProbeResult) => void,
): void {
  // The program after -e gets the connection, and ends.
  const command = startCommand(busyboxPath, [...args, "-e", busyboxPath, "true"], {
    onOutput: () => undefined,
    onEnd: ({ exitCode, stderrTail }) => {
      unlisten();
      const detail = `connect to port ${port}: ${explain(stderrTail)}`;
      settle(exitCode === 0 ? { healthy: true } : { healthy: false, detail });
    },
  });
  const unlisten = onAbort(probeSignal, () => command.kill());
}

function probeByHttp(
  { busyboxPath, args, probeSignal }: ProbeCommand,
  request: { address: string; port: number; path: string },
  settle: (result: ProbeResult) => void,
): void {
  const answer = new HttpAnswer(request, (result) => {
    settle(result);
    command.kill();
  });
  const command = startCommand(busyboxPath, args, {
    onOutput: (chunk) => answer.add(chunk),
    onEnd: ({ exitCode, stderrTail }) => {
      unlisten();
      if (exitCode === 0 || exitCode === undefined) answer.end();
      else answer.fail(explain(stderrTail));
    },
  });
  const unlisten = onAbort(probeSignal, () => command.kill());
  command.write(formatRequest(request));
}

function explain(stderr: string): string {
  const text = /^nc: can't connect to remote host \(.*?\): (.*)$/m.exec(stderr)?.[1] ?? stderr;
  return errorNames[text.trim()] ?? (text.trim() || "the connection failed");
}
