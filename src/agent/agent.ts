import { setMaxListeners } from "node:events";
import {
  AGENT_PROTOCOL_VERSION,
  type Sync,
  type SyncResult,
} from "../contracts/agent-protocol/protocol.ts";
import type { Log } from "../lib/log.ts";
import { aborted, isAborted } from "./aborted.ts";
import { type AgentLimits, defaultAgentLimits } from "./agent-limits.ts";
import { type Clock, delay, systemClock } from "./clock.ts";
import { createConcurrencyLimit } from "../lib/async/concurrency-limit.ts";
import type { DockerHealth } from "./docker-monitor.ts";
import { standFailure } from "./failure-wait.ts";
import { HostKeepers, type HostKeepersOptions } from "./host-keepers.ts";
import { keepLooking, keepWatching } from "./keep-looking.ts";
import type { KeptSet } from "./kept-set.ts";
import { KeptState } from "./kept-state.ts";
import { LogStreams } from "./log-streams.ts";
import { type ControlPlane, CredentialRefusedError } from "./ports/control-plane.ts";
import type { MachinePort } from "./ports/machine-port.ts";
import type { SetPort } from "./ports/set-port.ts";
import type { StateStore } from "./ports/state-store.ts";
import type { VolumePort } from "./ports/volume-port.ts";
import { Reporter } from "./reporter.ts";
import { SetRunners } from "./set-runners.ts";

/** After an answer that was of no use the next question waits, so that a confused API is not asked in a tight loop. */
const USELESS_ANSWER_WAIT_MS = 5_000;
const SHORT_ANSWER_MS = 50;
const SHORT_ANSWER_WAIT_MS = 250;

export interface AgentOptions {
  hostId: string;
  agentVersion: string;
  port: SetPort;
  api: ControlPlane;
  state: StateStore;
  machine: MachinePort;
  /** Without it the host has no volumes to look after. */
  volumes?: VolumePort | undefined;
  /** Without it nobody looks after Docker's disk. */
  disk?: HostKeepersOptions["disk"];
  /** Whether sets are stopped that write more to their root file systems than they are given; otherwise it is only said. */
  stopsAtRootfs?: boolean;
  log: Log;
  clock?: Clock;
  /** In [0, 1). */
  random?: () => number;
  limits?: Partial<AgentLimits>;
}

export interface AgentStatus {
  sets: number;
  acceptedGeneration: number;
  docker: DockerHealth | undefined;
  /** Sets for which a look at the whole host showed something that no event had told. */
  corrections: number;
  /** When a sync was answered last. */
  syncedAtMs: number | undefined;
}

export interface Agent {
  /**
   * Runs until `signal` is aborted: then no step begins any more, those under way end within a deadline, what is left to
   * report is reported, and it resolves. Containers are left as they are. Rejects with CredentialRefusedError when the
   * control plane does not know this host any more; containers are left as they are then too.
   */
  run(signal: AbortSignal): Promise<void>;
  status(): AgentStatus;
}

/**
 * The agent of one host. Loops that never wait for each other: one asks for what should be (long poll), one reports what
 * is, one looks after Docker, one looks at the whole host; and a runner for each set does the work. It only asks: nothing
 * connects to it. All knowledge that matters is in Docker's labels and in the control plane; the state store has hints.
 */
export function createAgent(options: AgentOptions): Agent {
  return new HostAgent(options);
}

class HostAgent implements Agent {
  readonly #options: AgentOptions;
  readonly #limits: AgentLimits;
  readonly #clock: Clock;
  readonly #random: () => number;
  readonly #log: Log;
  readonly #reporter: Reporter;
  readonly #keepers: HostKeepers;
  readonly #streams: LogStreams;
  readonly #stopping = new AbortController();
  readonly #cancelled = new AbortController();
  #kept: KeptState;
  #runners: SetRunners | undefined;
  #corrections = 0;
  #syncedAtMs: number | undefined;

  constructor(options: AgentOptions) {
    this.#options = options;
    this.#limits = { ...defaultAgentLimits, ...options.limits };
    this.#clock = options.clock ?? systemClock;
    this.#random = options.random ?? Math.random;
    this.#log = options.log;
    const { port, api, log, state, machine, volumes, disk } = options;
    this.#keepers = new HostKeepers({
      port,
      volumes,
      disk,
      clock: this.#clock,
      log,
      limits: this.#limits,
      onNews: () => this.#reporter.ring(),
      onAvailable: () => this.#runners?.onAvailable(),
      onRootfsMeasured: (usedBytes) => this.#runners?.onRootfsMeasured(usedBytes),
      neededImages: () => this.#kept.desired.images(),
    });
    this.#reporter = new Reporter({
      machine,
      port,
      keepers: this.#keepers,
      clock: this.#clock,
      log,
      random: this.#random,
      limits: this.#limits,
      sync: (parts, signal) => this.#sync(parts, signal),
      onAnswer: (answer) => this.#accept(answer),
      onAbsent: (setId, generation) => this.#noteAbsent(setId, generation),
    });
    this.#kept = new KeptState(state, undefined, log);
    this.#streams = new LogStreams({ port, api, log, streamsMax: this.#limits.streamsMax });
    // Every set and every call under way listens.
    setMaxListeners(0, this.#stopping.signal, this.#cancelled.signal);
  }

  status(): AgentStatus {
    return {
      sets: this.#runners?.size ?? 0,
      acceptedGeneration: this.#kept.desired.acceptedGeneration,
      docker: this.#keepers.monitor.health,
      corrections: this.#corrections,
      syncedAtMs: this.#syncedAtMs,
    };
  }

  async run(signal: AbortSignal): Promise<void> {
    const { state } = this.#options;
    this.#kept = new KeptState(state, await state.load(), this.#log);
    const runners = this.#createRunners();
    this.#runners = runners;
    const stop = () => this.#stopping.abort(new Error("the agent stops"));
    if (signal.aborted) stop();
    signal.addEventListener("abort", stop, { once: true });
    try {
      await this.#runLoops(runners);
    } finally {
      signal.removeEventListener("abort", stop);
    }
  }

  /** Ends when stopped, or with the first error that a loop cannot live with; in order either way. */
  async #runLoops(runners: SetRunners): Promise<void> {
    const { signal } = this.#stopping;
    const lookOptions = {
      port: this.#options.port,
      runners,
      clock: this.#clock,
      log: this.#log,
      intervalMs: this.#limits.lookIntervalMs,
      onCorrections: (corrections: number) => {
        this.#corrections += corrections;
      },
    };
    let failure: Error | undefined;
    const { reviveWithinMs } = this.#limits;
    const cancelRevival = this.#clock.after(reviveWithinMs, () => runners.allowRevival());
    const loops = [
      this.#pull(signal),
      this.#reporter.run(signal),
      keepLooking(lookOptions, signal),
      keepWatching(lookOptions, signal),
      this.#keepers.run(signal),
    ].map((loop) =>
      loop.catch((error: unknown) => {
        failure ??= error instanceof Error ? error : new Error(String(error));
        this.#stopping.abort(new Error("the agent stops"));
      }),
    );
    await aborted(signal);
    cancelRevival();
    await this.#settle(runners);
    const isRefused = failure instanceof CredentialRefusedError;
    if (!isRefused) await this.#reporter.sendLast();
    this.#cancelled.abort(new Error("the agent stops"));
    await Promise.all(loops);
    await this.#kept.settled();
    if (failure !== undefined) throw failure;
  }

  #createRunners(): SetRunners {
    const { port, stopsAtRootfs = false } = this.#options;
    const context = {
      port,
      stopsAtRootfs,
      clock: this.#clock,
      random: this.#random,
      log: this.#log,
      stepLimit: createConcurrencyLimit(this.#limits.stepsMax),
      lookLimit: createConcurrencyLimit(this.#limits.looksMax),
      hasRunBefore: (setId: string, specKey?: string) => this.#kept.hasRun(setId, specKey),
      onRan: (setId: string, specKey: string) => this.#kept.noteRan(setId, specKey),
      keptSet: (setId: string) => this.#kept.keptSet(setId),
      onKept: (setId: string, kept: KeptSet | undefined) => this.#kept.noteKept(setId, kept),
      onReport: (report: Sync["observed"][number]) => {
        if (this.#reporter.put(report)) this.#keepers.volumes?.lookSoon();
      },
      // Berth counts what a set may have more as used until it hears what is.
      onResized: () => this.#reporter.usage.repeat(),
      stopping: this.#stopping.signal,
      cancelled: this.#cancelled.signal,
    };
    return new SetRunners(context, this.#kept.desired.list());
  }

  /** Asks for what should be, and waits for it to change. */
  async #pull(signal: AbortSignal): Promise<void> {
    let failuresInRow = 0;
    let fullAtMs = Number.NEGATIVE_INFINITY;
    while (!signal.aborted) {
      const full = this.#clock.nowMs() >= fullAtMs;
      const startedAtMs = this.#clock.nowMs();
      try {
        const waitMs = full ? 0 : this.#waitMs();
        const result = await this.#ask({ full, waitMs }, signal);
        const use = await this.#accept(result);
        failuresInRow = 0;
        const endedAtMs = this.#clock.nowMs();
        if (use === "stale") await delay(this.#clock, USELESS_ANSWER_WAIT_MS, signal);
        else if (full) {
          fullAtMs = endedAtMs + this.#limits.fullIntervalMs;
          this.#reporter.repeatDoubtful();
        } else if (use === "nothing" && endedAtMs - startedAtMs < SHORT_ANSWER_MS) {
          await delay(this.#clock, SHORT_ANSWER_WAIT_MS, signal);
        }
      } catch (error) {
        if (isAborted(signal)) return;
        failuresInRow++;
        const about = { clock: this.#clock, log: this.#log, random: this.#random, loop: "pull" };
        await standFailure(about, error, failuresInRow, signal);
      }
    }
  }

  /** Ends before the next usage report is due, so that the next question takes it along. */
  #waitMs(): number {
    return Math.min(this.#limits.waitMs, Math.ceil(this.#limits.usageIntervalMs * 0.9));
  }

  /** Takes along what the machine uses, if it is soon to be said again: then most such reports need no sync of their own. */
  async #ask(parts: Pick<Sync, "full" | "waitMs">, signal: AbortSignal): Promise<SyncResult> {
    const { usage: usageReports } = this.#reporter;
    const usage = await usageReports.takeIfDue(this.#limits.usageIntervalMs / 2);
    try {
      return await this.#sync({ ...parts, usage }, signal);
    } catch (error) {
      if (usage !== null) usageReports.repeat();
      throw error;
    }
  }

  async #sync(parts: Partial<Sync>, signal: AbortSignal): Promise<SyncResult> {
    const result = await this.#options.api.sync(
      {
        protocol: AGENT_PROTOCOL_VERSION,
        agentVersion: this.#options.agentVersion,
        acceptedGeneration: this.#kept.persistedGeneration,
        full: false,
        waitMs: 0,
        observed: [],
        docker: this.#keepers.monitor.health ?? null,
        usage: null,
        images: null,
        volumes: null,
        ...parts,
      },
      signal,
    );
    this.#syncedAtMs = this.#clock.nowMs();
    return result;
  }

  async #accept(result: SyncResult): Promise<"news" | "nothing" | "stale"> {
    this.#streams.serve(result.streams, this.#stopping.signal);
    const use = await this.#kept.accept(result, (accepted) => {
      for (const setId of accepted.dropped) this.#forget(setId);
      this.#runners?.apply(accepted);
    });
    if (use !== "stale") this.#runners?.allowRevival();
    if (use !== "stale") this.#keepers.volumes?.heed(result, this.#kept.desired.list());
    this.#reporter.expectAgain(result.reportAgain);
    this.#runners?.lookAgain(result.reportAgain);
    return use === "nothing" && result.streams.length > 0 ? "news" : use;
  }

  /** What is known to be gone on both sides is forgotten. */
  #noteAbsent(setId: string, generation: number): boolean {
    if (!this.#kept.desired.forgetDeleted(setId, generation)) return false;
    this.#kept.forget(setId);
    this.#runners?.apply({ changed: [], dropped: [setId], isComplete: false });
    this.#kept.saveSoon();
    return true;
  }

  #forget(setId: string): void {
    this.#reporter.forget(setId);
    this.#kept.forget(setId);
  }

  /** Steps under way end, or are broken off at the deadline. */
  async #settle(runners: SetRunners): Promise<void> {
    const isLate = new AbortController();
    const deadline = delay(this.#clock, this.#limits.stopDeadlineMs, isLate.signal);
    await Promise.race([runners.settled(), deadline]);
    isLate.abort();
    this.#cancelled.abort(new Error("the agent stops"));
    await Promise.all([runners.settled(), this.#streams.settled()]);
  }
}
