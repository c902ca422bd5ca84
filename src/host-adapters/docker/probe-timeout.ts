import type { ProbeResult } from "../../agent/model/local-set.ts";
import { toAbortError } from "./call-docker.ts";

/** Runs one attempt of a probe with its timeout. Rejects only when `signal` is aborted. */
export function withinTimeout(
  timeoutSeconds: number,
  signal: AbortSignal,
  attempt: (probeSignal: AbortSignal, settle: (result: ProbeResult) => void) => void,
): Promise<ProbeResult> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(toAbortError(signal));
    const controller = new AbortController();
    const end = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", onAbort);
    };
    const settle = (result: ProbeResult) => {
      end();
      resolve(result);
    };
    const onAbort = () => {
      end();
      reject(toAbortError(signal));
      controller.abort();
    };
    const timer = setTimeout(() => {
      settle({ healthy: false, detail: `no answer within ${timeoutSeconds} s` });
      controller.abort();
    }, timeoutSeconds * 1_000);
    signal.addEventListener("abort", onAbort, { once: true });
    return attempt(controller.signal, settle);
  });
}
