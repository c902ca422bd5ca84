import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { CommandError, type setCommandRunner } from "../../../src/host-adapters/exec.ts";

const run = promisify(execFile);

/** Runs the programs of adapters in a network namespace, for `setCommandRunner`. */
export function createNamespaceRunner(
  namespace: string,
): NonNullable<Parameters<typeof setCommandRunner>[0]> {
  return async (program, args, { input }) => {
    const running = run("ip", ["netns", "exec", namespace, program, ...args]);
    running.child.stdin?.end(input);
    try {
      return (await running).stdout;
    } catch (error) {
      const { code, stderr } = error as { code?: number; stderr?: string };
      throw new CommandError(program, { exitCode: code, stderrTail: stderr ?? "", cause: error });
    }
  };
}
