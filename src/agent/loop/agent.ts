import { SETS_PER_HOST_MAX } from "../../contracts/agent-protocol/protocol.ts";
import type { Sync } from "../../contracts/agent-protocol/sync.ts";
import { onAbort, runAbortable, untilAborted } from "../../lib/async/abort.ts";
import type { Log } from "../../lib/log.ts";
import { type AgentLimits, defaultAgentLimits } from "../base/agent-limits.ts";
import { type Clock, createDeadline } from "../base/clock.ts";
import type { DockerHealth } from "../housekeeping/docker-health.ts";
import { Housekeeping } from "../housekeeping/housekeeping.ts";
import { type AcceptedAnswer, acceptAnswer } from "./accept-answer.ts";
import type { AgentOptions } from "./agent-options.ts";
import { resyncPeriodically, forwardEvents } from "./resync.ts";
import type { PersistedHistory } from "../ports/state-store.ts";
import { PersistedState } from "./persisted-state.ts";
import { LogStreams } from "../streams/log-streams.ts";
import { Sessions } from "../streams/sessions.ts";
import type { SyncAnswer } from "../ports/control-plane.ts";
import { type ControlPlaneStatus, Refusals } from "./refusals.ts";
import { PreviousHosts } from "./previous-hosts.ts";
import { type NetworkStatesOptions, pullNetworkStates } from "./network-states.ts";
import { pullOrders } from "./pull-orders.ts";
import { AddressReports } from "../reporting/address-reports.ts";
import { Reporter } from "../reporting/reporter.ts";
import { createEmptySync, sendSync } from "../reporting/send-sync.ts";
import { SetRunners } from "./set-runners.ts";
import { Wakeup } from "../base/wakeup.ts";
import { createWorkLimits } from "../base/work-limits.ts";

export interface AgentStatus {
  sets: number;
  acceptedGeneration: number;
  docker: DockerHealth | undefined;
  /** Sets that a resync found changed without an event. */
  corrections: number;
  /** Parts of reports that violated the protocol, so that the agent did not send them. */
  omittedParts: number;
  /** Time of the last answered sync. */
  syncedAtMs: number | undefined;
  /** Whether Berth accepts this agent. */
  controlPlane: ControlPlaneStatus;
}

export interface Agent {
  /**
   * Runs until `signal` is aborted. Then it starts no step, gives steps in progress a deadline,
   * sends the remaining reports, and resolves. Rejects with NotAdmittedError if another agent
   * manages the host, and after a fault of the agent itself. No other answer of the control plane
   * ends the agent. Containers keep running in each case.
   */
  run(signal: AbortSignal): Promise<void>;
  status(): AgentStatus;
}

/**
 * The agent of one host. Independent loops pull the desired state (long poll), report the observed
 * state, check Docker, and resync the whole host. One runner for each set takes the steps. The
 * agent only pulls: nothing connects to it. Docker's labels and the control plane have all
 * essential state; the state store has hints.
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
  readonly #addresses: AddressReports;
  readonly #housekeeping: Housekeeping;
  readonly #streams: LogStreams;
  readonly #sessions: Sessions | undefined;
  readonly #previousHosts: PreviousHosts | undefined;
  readonly #stopping = new AbortController();
  readonly #cancelled = new AbortController();
  #persisted: PersistedState;
  #refusals: Refusals;
  #runners: SetRunners | undefined;
  #corrections = 0;
  readonly #counts = { omittedParts: 0 };
  #syncedAtMs: number | undefined;

  constructor(options: AgentOptions) {
    this.#options = options;
    this.#limits = { ...defaultAgentLimits, ...options.limits };
    this.#clock = options.clock;
    this.#random = options.random;
    this.#log = options.log;
    const { port, api, log, state, machine, volumes, disk, previousHosts } = options;
    this.#housekeeping = new Housekeeping({
      port,
      volumes,
      disk,
      selfTest: options.selfTest,
      networkDriver: options.networks && {
        port: options.networks.driver,
        findTunnelAddress: options.networks.findTunnelAddress,
        hasAttachedSets: () => this.#persisted.desired.haveAttachments(),
        onChange: () => this.#reporter.usage.repeat(),
      },
      clock: this.#clock,
      log,
      limits: this.#limits,
      onChange: () => this.#reporter.wake(),
      onAvailable: () => this.#runners?.onAvailable(),
      onRootfsMeasured: (usedBytes) => this.#runners?.onRootfsMeasured(usedBytes),
      neededImages: () => this.#persisted.desired.images(),
    });
    this.#reporter = new Reporter({
      machine,
      port,
      hostAddress: options.hostAddress ?? (() => null),
      housekeeping: this.#housekeeping,
      clock: this.#clock,
      log,
      random: this.#random,
      limits: this.#limits,
      sync: (parts, signal) => this.#sync(parts, signal),
      onAnswer: (answer) => this.#accept(answer),
      onAbsent: (setId, generation) => this.#noteAbsent(setId, generation),
      pauseMs: (random) => this.#refusals.pauseMs(random),
      fault: () => this.#persisted.fault,
    });
    this.#addresses = new AddressReports({
      listSets: () => this.#persisted.desired.list(),
      onRequested: () => this.#reporter.wake(),
      clock: this.#clock,
    });
    this.#persisted = new PersistedState(state, undefined, log);
    this.#refusals = this.#createRefusals();
    this.#streams = new LogStreams({
      port,
      api,
      clock: this.#clock,
      log,
      streamsMax: this.#limits.streamsMax,
    });
    const { sessions } = options;
    this.#sessions = sessions && new Sessions({ ...sessions, clock: this.#clock, log });
    this.#previousHosts =
      previousHosts &&
      new PreviousHosts({
        hostId: options.hostId,
        port: previousHosts,
        log,
        onRemoved: () => this.#housekeeping.volumes?.checkSoon(),
      });
  }

  status(): AgentStatus {
    return {
      sets: this.#runners?.size ?? 0,
      acceptedGeneration: this.#persisted.desired.acceptedGeneration,
      docker: this.#housekeeping.dockerHealth.health,
      corrections: this.#corrections,
      ...this.#counts,
      syncedAtMs: this.#syncedAtMs,
      controlPlane: this.#refusals.status,
    };
  }

  async run(signal: AbortSignal): Promise<void> {
    const { state } = this.#options;
    this.#persisted = new PersistedState(state, await state.load(), this.#log);
    this.#refusals = this.#createRefusals();
    const runners = this.#createRunners();
    if (this.#persisted.isHostDeleted) runners.fence();
    this.#runners = runners;
    const unlisten = onAbort(signal, () => this.#stopping.abort(new Error("the agent stops")));
    try {
      await this.#runLoops(runners);
    } finally {
      unlisten();
    }
  }

  /** Ends in order, either when stopped or after the first fatal error of a loop. */
  async #runLoops(runners: SetRunners): Promise<void> {
    const { signal } = this.#stopping;
    const resyncOptions = {
      port: this.#options.port,
      runners,
      clock: this.#clock,
      log: this.#log,
      intervalMs: this.#limits.resyncIntervalMs,
      eventsOpen: new Wakeup(this.#clock),
      onCorrections: (corrections: number) => void (this.#corrections += corrections),
    };
    let failure: Error | undefined;
    const { startupGraceMs } = this.#limits;
    const cancelStartupHold = this.#clock.after(startupGraceMs, () => runners.allowStarts());
    const loops = [
      this.#pull(signal),
      this.#reporter.run(signal),
      resyncPeriodically(resyncOptions, signal),
      forwardEvents(resyncOptions, signal),
      this.#housekeeping.run(signal),
      this.#pullNetworks(signal),
    ].map((loop) =>
      loop.catch((error: unknown) => {
        failure ??= error instanceof Error ? error : new Error(String(error));
        this.#stopping.abort(new Error("the agent stops"));
      }),
    );
    await untilAborted(signal);
    cancelStartupHold();
    await this.#settle(runners);
    if (this.#refusals.status === "accepted") await this.#reporter.sendLast();
    this.#cancelled.abort(new Error("the agent stops"));
    await Promise.all(loops);
    await this.#persisted.settled();
    if (failure !== undefined) throw failure;
  }

  #createRefusals(): Refusals {
    return new Refusals({
      clock: this.#clock,
      log: this.#log,
      limits: this.#limits,
      wasDeleted: this.#persisted.isHostDeleted,
      onDeleted: () => {
        this.#persisted.noteHostDeleted(true);
        this.#runners?.fence();
      },
    });
  }

  #createRunners(): SetRunners {
    const { port, stopsAtRootfs = false } = this.#options;
    const context = {
      port,
      stopsAtRootfs,
      clock: this.#clock,
      random: this.#random,
      log: this.#log,
      limits: createWorkLimits(this.#limits, this.#clock),
      hasRunBefore: (setId: string, specKey?: string) => this.#persisted.hasRun(setId, specKey),
      onRan: (setId: string, specKey: string) => this.#persisted.noteRan(setId, specKey),
      persistedHistory: (setId: string) => this.#persisted.persistedHistory(setId),
      onPersistedHistory: (setId: string, history: PersistedHistory | undefined) =>
        this.#persisted.storeHistory(setId, history),
      persistedHistorySettled: () => this.#persisted.settled(),
      onReport: (report: Sync["observed"][number]) => {
        if (this.#reporter.put(report)) this.#housekeeping.volumes?.checkSoon();
      },
      // The control plane counts the additional capacity of the set as used until the next report.
      onResized: () => this.#reporter.usage.repeat(),
      isListed: (setId: string) => this.#persisted.desired.isListed(setId),
      stopping: this.#stopping.signal,
      cancelled: this.#cancelled.signal,
    };
    const { desired } = this.#persisted;
    return new SetRunners(context, desired.list(), desired.listUnsupported());
  }

  #pull(signal: AbortSignal): Promise<void> {
    const options = {
      clock: this.#clock,
      log: this.#log,
      random: this.#random,
      limits: this.#limits,
      poll: (parts: Partial<Sync>) => this.#poll(parts, signal),
      accept: (answer: SyncAnswer) => this.#accept(answer),
      listUnlisted: () => this.#listUnlisted(),
      onFullAnswer: (unlistedSets: readonly string[]) => {
        this.#runners?.confirmUnlisted(unlistedSets);
        this.#reporter.resendUnconfirmed();
      },
      pauseMs: (random: number) => this.#refusals.pauseMs(random),
    };
    return pullOrders(options, signal);
  }

  async #pullNetworks(signal: AbortSignal): Promise<void> {
    const { networks } = this.#options;
    const health = this.#housekeeping.networkDriver;
    if (!networks || !health) return;
    const options: NetworkStatesOptions = {
      ...networks,
      health,
      onNetworks: (all) => this.#addresses.noteNetworks(all),
      clock: this.#clock,
      log: this.#log,
      random: this.#random,
      limits: this.#limits,
      pauseMs: (random) => this.#refusals.pauseMs(random),
    };
    await pullNetworkStates(options, signal);
  }

  /** At most as many as a sync may name. The answer decides which of them the agent removes. */
  #listUnlisted(): string[] {
    const setIds = this.#runners?.ids() ?? [];
    return this.#persisted.desired.listUnlisted(setIds).slice(0, SETS_PER_HOST_MAX);
  }

  /** Includes a usage report that is due soon. So most usage reports need no sync of their own. */
  async #poll(parts: Partial<Sync>, signal: AbortSignal): Promise<SyncAnswer> {
    const { usage: usageReports } = this.#reporter;
    const usage = await usageReports.takeIfDue(this.#limits.usageIntervalMs / 2);
    try {
      return await this.#sync({ ...parts, usage }, signal);
    } catch (error) {
      if (usage !== null) usageReports.repeat();
      throw error;
    }
  }

  async #sync(parts: Partial<Sync>, signal: AbortSignal): Promise<SyncAnswer> {
    const { agentVersion, api } = this.#options;
    const docker = this.#housekeeping.dockerHealth.health ?? null;
    const empty = createEmptySync(agentVersion, this.#persisted.persistedGeneration);
    const body = { ...empty, docker, ...parts };
    const noteTime = this.#reporter.clockSkew.beginSync();
    const startRetentions = this.#housekeeping.volumes?.beginSync();
    const sendOptions = {
      api,
      log: this.#log,
      counts: this.#counts,
      capabilities: this.#reporter.capabilities,
      addresses: this.#addresses,
      prefetches: this.#housekeeping.prefetches,
      onBareAnswer: (answer: SyncAnswer) => {
        startRetentions?.(answer);
        return this.#accept(answer);
      },
    };
    const result = await sendSync(sendOptions, body, signal).catch((error: unknown) => {
      this.#refusals.noteFailed(error);
      throw error;
    });
    noteTime(result);
    startRetentions?.(result);
    this.#syncedAtMs = this.#clock.wallMs();
    return result;
  }

  /** Rejects if the answer cannot be persisted, after it has applied what needs no persistence. */
  #accept(result: SyncAnswer): Promise<AcceptedAnswer> {
    const parts = {
      persisted: this.#persisted,
      refusals: this.#refusals,
      runners: this.#runners,
      reporter: this.#reporter,
      housekeeping: this.#housekeeping,
      streams: this.#streams,
      sessions: this.#sessions,
      previousHosts: this.#previousHosts,
      registryCredentials: this.#options.registryCredentials,
      log: this.#log,
      stopping: this.#stopping.signal,
      forget: (setId: string) => this.#forget(setId),
    };
    return acceptAnswer(parts, result);
  }

  /** Forgets a set that is deleted on both sides. */
  #noteAbsent(setId: string, generation: number): boolean {
    if (!this.#persisted.desired.forgetDeleted(setId, generation)) return false;
    this.#persisted.forget(setId);
    this.#runners?.apply({
      changed: [],
      unsupported: [],
      dropped: [setId],
      isComplete: false,
      deleted: [],
    });
    this.#persisted.saveSoon();
    return true;
  }

  #forget(setId: string): void {
    this.#reporter.forget(setId);
    this.#persisted.forget(setId);
  }

  /** Waits for the steps in progress, and aborts them at the deadline. */
  async #settle(runners: SetRunners): Promise<void> {
    const deadline = createDeadline(this.#clock, this.#limits.stopDeadlineMs, () => undefined);
    await runAbortable({ deadline }, () => runners.settled());
    this.#cancelled.abort(new Error("the agent stops"));
    const others = [
      this.#streams.settled(),
      this.#sessions?.settled(),
      this.#previousHosts?.settled(),
    ];
    await Promise.all([runners.settled(), ...others]);
  }
}
