import type { ProbeResult } from "../../agent/model/local-set.ts";
import { runAbortable } from "../../lib/async/abort.ts";

/** Runs one attempt of a probe with its timeout. Rejects only when `signal` is aborted. */
export function withinTimeout(
  timeoutSeconds: number,
  signal: AbortSignal,
  attempt: (probeSignal: AbortSignal, settle: (result: ProbeResult) => void) => void,
): Promise<ProbeResult> {
  const onLate = () => ({ healthy: false, detail: `no answer within ${timeoutSeconds} s` });
  const deadline = { timeoutMs: timeoutSeconds * 1_000, onLate };
  return runAbortable<ProbeResult>(
    { signal, deadline },
    (probeSignal) => new Promise((resolve) => attempt(probeSignal, resolve)),
  );
}
