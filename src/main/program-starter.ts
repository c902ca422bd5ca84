import { CommandError, runCommand } from "../host-adapters/exec.ts";
import type { StarterMessage, StarterRequest } from "./compose/program-starter.ts";

/** Runs the programs of its parent process. See compose/program-starter.ts. */

const running = new Map<number, AbortController>();

for (const name of ["SIGTERM", "SIGINT"] as const) process.on(name, () => undefined);
// Programs that still run continue, as after an abrupt end of any other process of Berth.
process.on("disconnect", () => process.exit(0));
process.on("message", (request: StarterRequest) => {
  if ("isAborted" in request) running.get(request.requestId)?.abort();
  else void run(request);
});
send({ isReady: true });

async function run(request: Extract<StarterRequest, { path: string }>): Promise<void> {
  const { requestId, path, args, options } = request;
  const abort = new AbortController();
  running.set(requestId, abort);
  try {
    send({ requestId, output: await runCommand(path, args, { ...options, signal: abort.signal }) });
  } catch (error) {
    send({ requestId, failure: describeFailure(error) });
  } finally {
    running.delete(requestId);
  }
}

function describeFailure(error: unknown) {
  if (!(error instanceof CommandError)) return { stderrTail: "", cause: String(error) };
  const { exitCode, stderrTail, cause } = error;
  return {
    ...(exitCode === undefined ? {} : { exitCode }),
    stderrTail,
    cause: cause instanceof Error ? cause.message : String(cause),
  };
}

function send(message: StarterMessage): void {
  if (process.connected) process.send?.(message);
}
