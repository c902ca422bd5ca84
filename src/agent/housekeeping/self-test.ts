import type { AgentCapabilities } from "../../contracts/agent-protocol/agent-capabilities.ts";
import type { Reason } from "../../contracts/common/primitives.ts";
import { isAborted, runAbortable } from "../../lib/async/abort.ts";
import type { Log } from "../../lib/log.ts";
import { truncate } from "../../lib/text/truncate.ts";
import { AgentError } from "../base/agent-error.ts";
import type { AgentLimits } from "../base/agent-limits.ts";
import { type Clock, createDeadline, sleep } from "../base/clock.ts";
import { Wakeup } from "../base/wakeup.ts";
import type { SelfTestPort } from "../ports/self-test-port.ts";

/** A single failure may come from a restart of Docker, or from a busy machine. */
const FAILURES_MIN = 2;
const REASON_CHARS_MAX = 1_000;

/** Whether a failed self test takes the host from new sets, is only reported, or is never run. */
export type SelfTestMode = "enforce" | "report" | "off";

export interface SelfTestMonitorOptions {
  port: SelfTestPort;
  mode: SelfTestMode;
  clock: Clock;
  log: Log;
  limits: Pick<
    AgentLimits,
    "selfTestDelayMs" | "selfTestIntervalMs" | "selfTestRetryMs" | "selfTestTimeoutMs"
  >;
  /** While Docker is unreachable, the host is unhealthy anyway, and the last result stays. */
  isDockerReachable: () => boolean;
  /** Called when there is another result to report. */
  onChange: () => void;
}

/**
 * Tests soon after the start of the agent, periodically, and after a failed ping of Docker,
 * whether this machine can run a set at all. With a failed test the host gets no new sets, until a
 * test passes. Sets on the host stay (I17).
 */
export class SelfTestMonitor {
  readonly #options: SelfTestMonitorOptions;
  readonly #wakeup: Wakeup;
  #tested: Pick<AgentCapabilities, "docker" | "selfTest"> = { docker: null, selfTest: null };
  #failuresInRow = 0;

  constructor(options: SelfTestMonitorOptions) {
    this.#options = options;
    // Without this result, the API would retain the last one of an earlier process.
    if (options.mode === "off")
      this.#tested = { docker: null, selfTest: { state: "off", reason: null } };
    this.#wakeup = new Wakeup(options.clock);
  }

  /** The results so far. */
  get tested(): Pick<AgentCapabilities, "docker" | "selfTest"> {
    return this.#tested;
  }

  checkSoon(): void {
    this.#wakeup.notify();
  }

  /** Runs until aborted. At least `selfTestRetryMs` pass between two tests. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, limits, isDockerReachable } = this.#options;
    const { selfTestDelayMs, selfTestIntervalMs, selfTestRetryMs } = limits;
    // The first sets of a started agent do not compete with the test.
    await sleep(clock, selfTestDelayMs, signal);
    while (!isAborted(signal)) {
      if (isDockerReachable()) await this.#test(signal);
      await sleep(clock, selfTestRetryMs, signal);
      if (this.#failuresInRow === 0)
        await this.#wakeup.wait(selfTestIntervalMs - selfTestRetryMs, signal);
    }
  }

  async #test(signal: AbortSignal): Promise<void> {
    const { port, mode } = this.#options;
    const docker = await this.#try(signal, (callSignal) => port.describeDocker(callSignal));
    if (docker.ok) this.#become({ docker: docker.value });
    if (mode === "off") return;
    const outcome = docker.ok
      ? await this.#try(signal, (callSignal) => port.run(callSignal))
      : docker;
    if (isAborted(signal)) return;
    if (outcome.ok) {
      this.#failuresInRow = 0;
      this.#become({ selfTest: { state: "passed", reason: null } });
      return;
    }
    this.#failuresInRow++;
    if (this.#failuresInRow >= FAILURES_MIN)
      this.#become({ selfTest: { state: toFailedState(mode), reason: outcome.reason } });
  }

  async #try<T>(
    signal: AbortSignal,
    call: (signal: AbortSignal) => Promise<T>,
  ): Promise<{ ok: true; value: T } | { ok: false; reason: Reason }> {
    const { clock, limits, log } = this.#options;
    const deadline = createDeadline<T>(clock, limits.selfTestTimeoutMs, () => {
      throw createTimeoutError(limits.selfTestTimeoutMs);
    });
    try {
      return { ok: true, value: await runAbortable({ signal, deadline }, call) };
    } catch (error) {
      if (!isAborted(signal)) log.warn({ err: error }, "the self test failed");
      return { ok: false, reason: toReason(error) };
    }
  }

  #become(change: Partial<typeof this.tested>): void {
    const before = JSON.stringify(this.#tested);
    this.#tested = { ...this.#tested, ...change };
    if (JSON.stringify(this.#tested) !== before) this.#options.onChange();
  }
}

function toFailedState(mode: SelfTestMode): "failed" | "reported" {
  return mode === "report" ? "reported" : "failed";
}

function createTimeoutError(timeoutMs: number): AgentError {
  const message = `the self test did not end within ${timeoutMs / 1_000} s`;
  return new AgentError("self-test-slow", message, { phase: "observe", temporary: true });
}

function toReason(error: unknown): Reason {
  const code = error instanceof AgentError ? error.code : "self-test-error";
  const message = error instanceof Error ? error.message : String(error);
  return { code, text: truncate(message, REASON_CHARS_MAX) };
}
