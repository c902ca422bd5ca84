import { createSimulatedSetPort } from "../../../src/host-adapters/simulated/set-port.ts";
import {
  type SimulatedCall,
  SimulatedEngine,
} from "../../../src/host-adapters/simulated/simulated-engine.ts";
import { type Agent, createAgent } from "../../../src/agent/loop/agent.ts";
import type { AgentLimits } from "../../../src/agent/base/agent-limits.ts";
import { AgentError } from "../../../src/agent/base/agent-error.ts";
import { sleep } from "../../../src/agent/base/clock.ts";
import type { ControlPlane } from "../../../src/agent/ports/control-plane.ts";
import type { ObservedLocalSet } from "../../../src/agent/model/local-set.ts";
import type { SetPort } from "../../../src/agent/ports/set-port.ts";
import type { AgentState } from "../../../src/agent/ports/state-store.ts";
import { nextStates } from "../../../src/agent/model/set-state.ts";
import { areLimitsApplied } from "../../../src/agent/model/set-limits.ts";
import { specHash } from "../../../src/agent/model/spec-hash.ts";
import type { DesiredSet } from "../../../src/contracts/agent-protocol/desired-set.ts";
import type { ObservedSet } from "../../../src/contracts/agent-protocol/observed-set.ts";
import { type Log, silentLog } from "../../../src/lib/log.ts";
import { ModelControlPlane, noFaults } from "../fakes/model-control-plane.ts";
import { localSet } from "./local-set.ts";
import { seededRandom, VirtualClock } from "./virtual-clock.ts";

export const simulatedImage = "menu:1";
const missingImage = "missing:1";
export const ownHost = "host_own";
const otherHost = "host_other";
const hangMsMax = 40_000;

/** One run of the agent: from its start to its stop or its kill. */
interface AgentRun {
  agent: Agent;
  stop: AbortController;
  ran: Promise<void>;
  /** A function, because the value may change during any wait. */
  isDead: () => boolean;
  die: () => void;
  /** The last report of each set. */
  reported: Map<string, ObservedSet>;
}

const never = new Promise<never>(() => undefined);

/**
 * One host: the real agent on a virtual clock, a simulated engine, a model of the control plane,
 * and a disk. Every call may fail, and the agent may be killed between or during any calls. Equal
 * seeds give equal runs. `violations` lists broken invariants.
 */
export class AgentSimulation {
  readonly clock = new VirtualClock();
  readonly random: () => number;
  readonly engine: SimulatedEngine;
  readonly plane: ModelControlPlane;
  readonly violations: string[] = [];
  log: Log = silentLog;
  /** The last error that ended the agent. */
  endedBy: unknown;
  /** Shares of the engine calls that fail, and that hang for some time. */
  portFaults = { fail: 0, hang: 0 };
  isEngineHung = false;
  /** The engine's socket refuses connections. */
  isEngineUnreachable = false;
  losesEvents = false;
  /** Verbs that always fail, and verbs that never answer. */
  readonly failing = new Set<SimulatedCall["verb"]>();
  readonly hanging = new Set<SimulatedCall["verb"]>();
  /** Sets that the engine cannot show. */
  readonly unseen = new Set<string>();
  /** Calls the agent as an event stream does that opens again. */
  reopenEvents: () => void = () => undefined;
  /** True for a call that hangs now. */
  hangs: (call: SimulatedCall) => boolean = () => false;
  readonly callCounts = new Map<string, number>();
  /** Calls that change something, in order: "prepare set_…". */
  readonly changes: string[] = [];
  /** Longest duration of a disk write. */
  writeMsMax = 40;
  /** The disk with the agent's state has no space. */
  isDiskFull = false;
  limits: Partial<AgentLimits> = {};
  #run: AgentRun | undefined;
  #disk: AgentState | undefined;
  #writing = Promise.resolve();
  readonly #highestGeneration = new Map<string, number>();
  #foreign: ObservedLocalSet[] = [];

  constructor(seed: number) {
    this.random = seededRandom(seed);
    this.engine = new SimulatedEngine({
      clock: this.clock,
      delaysMs: {
        prepare: 300,
        resize: 50,
        start: 200,
        stop: 100,
        stopAll: 150,
        remove: 250,
        probe: 5,
        observe: 4,
      },
      hasImage: (image) => image !== missingImage,
      images: [simulatedImage],
    });
    this.plane = new ModelControlPlane(this.clock, this.random);
  }

  get agent(): Agent {
    if (!this.#run) throw new Error("no agent runs");
    return this.#run.agent;
  }

  get isRunning(): boolean {
    return this.#run !== undefined;
  }

  start(): void {
    const death = new AbortController();
    const run = {
      stop: new AbortController(),
      isDead: () => death.signal.aborted,
      die: () => death.abort(),
      reported: new Map(),
    } as AgentRun;
    const gate = <T>(work: Promise<T>): Promise<T> =>
      work.then(
        (value) => (run.isDead() ? never : value),
        (error: unknown) => (run.isDead() ? never : Promise.reject(error as Error)),
      );
    const api: ControlPlane = {
      sync: (body, signal) => {
        if (run.isDead()) return never;
        for (const report of body.observed) this.#checkReport(run, report);
        return gate(this.plane.sync(body, signal));
      },
      uploadStream: () => this.plane.uploadStream(),
    };
    run.agent = createAgent({
      hostId: ownHost,
      agentVersion: "test",
      port: this.#port(run),
      api,
      state: {
        load: async () => structuredClone(this.#disk),
        save: async (state) => {
          if (run.isDead()) return never;
          const written = structuredClone(state);
          const turn = this.#writing.then(async () => {
            await sleep(this.clock, this.random() * this.writeMsMax, new AbortController().signal);
            if (this.isDiskFull)
              throw Object.assign(new Error("ENOSPC: no space left on device"), { code: "ENOSPC" });
            if (!run.isDead()) this.#disk = written;
          });
          this.#writing = turn.catch(() => undefined);
          await turn;
          return run.isDead() ? never : undefined;
        },
      },
      machine: {
        measure: async () => ({
          used: nothing,
          allocatable: nothing,
          reclaimableVolumeBytes: 0,
          trashedVolumeBytes: 0,
          volumeReason: null,
        }),
      },
      log: this.log,
      clock: this.clock,
      random: this.random,
      limits: this.limits,
    });
    this.#run = run;
    run.ran = run.agent.run(run.stop.signal);
    run.ran.catch((error: unknown) => {
      this.endedBy = error;
      this.#violate(`the agent ended: ${String(error)}`);
    });
  }

  /** Kills the agent like kill -9: it takes no further action. */
  kill(): void {
    this.#run?.die();
    this.#run = undefined;
  }

  /** Stops the agent like SIGTERM. */
  async stop(): Promise<void> {
    const run = this.#run;
    if (!run) return;
    run.stop.abort(new Error("SIGTERM"));
    const ended = new AbortController();
    void run.ran.finally(() => ended.abort());
    const hasEnded = () => ended.signal.aborted;
    for (let waitedMs = 0; !hasEnded() && waitedMs < 20_000; waitedMs += 100) await this.pass(100);
    if (!hasEnded()) this.#violate("the agent did not stop within 20 s");
    this.#run = undefined;
  }

  async pass(durationMs: number): Promise<void> {
    await this.clock.pass(durationMs);
    this.#check();
  }

  /** Adds sets of another host on the same engine. The agent must never change them. */
  addForeign(count: number): void {
    for (let i = 0; i < count; i++) {
      const set = localSet({ image: simulatedImage });
      this.engine.prepareInfra(otherHost, set);
      this.engine.prepareBusiness(otherHost, set);
      this.engine.start(otherHost, set.setId, "app");
    }
    this.#foreign = this.engine.observe(otherHost);
  }

  want(changes: Partial<DesiredSet> & { names?: string[]; options?: object } = {}): DesiredSet {
    const { names, options, ...given } = changes;
    const made = localSet({
      image: simulatedImage,
      ...(names ? { names } : {}),
      ...(options ? { options } : {}),
    });
    return this.plane.want({ ...made, desired: "running", ...given });
  }

  change(set: DesiredSet, changes: Partial<DesiredSet>): DesiredSet {
    return this.plane.want({ ...set, ...changes });
  }

  withMissingImage(set: DesiredSet): DesiredSet["template"] {
    const template = structuredClone(set.template);
    for (const container of template.containers) container.image = missingImage;
    return template;
  }

  observed(setId: string): ObservedLocalSet | undefined {
    return this.engine.observeSet(ownHost, setId);
  }

  /** Differences from the desired state, in words; empty when the host has converged. */
  differences(): string[] {
    const found: string[] = [];
    for (const seen of this.engine.observe(ownHost)) {
      const desired = this.plane.desiredOf(seen.setId)?.desired;
      if (desired === undefined) found.push(`${seen.setId} exists and is not desired`);
    }
    for (const desired of this.plane.list()) found.push(...this.#differencesOf(desired));
    return found;
  }

  /** The accepted generation on the disk. */
  get writtenGeneration(): number {
    return this.#disk?.acceptedGeneration ?? 0;
  }

  /** Loses all data on the disk. */
  loseDisk(): void {
    this.#disk = undefined;
  }

  heal(): void {
    this.plane.faults = noFaults;
    this.portFaults = { fail: 0, hang: 0 };
    this.isEngineHung = false;
  }

  #differencesOf(desired: DesiredSet): string[] {
    const { setId } = desired;
    const seen = this.observed(setId);
    const all = seen ? [seen.infra, ...seen.containers] : [];
    const report = this.plane.reportOf(setId);
    const found: string[] = [];
    if (desired.desired === "deleted") found.push(`${setId} should be deleted`);
    if (desired.desired === "stopped" && all.some((container) => container?.state === "running")) {
      found.push(`${setId} should be stopped`);
    }
    const lacksImage = desired.template.containers.some(({ image }) => image === missingImage);
    if (desired.desired === "running" && lacksImage) {
      // The containers of its previous description run on.
      if (report?.reason?.code !== "image-not-found") found.push(`${setId}: has another reason`);
      return found;
    }
    if (desired.desired === "running") {
      const names = ["infra", ...desired.template.containers.map(({ name }) => name)];
      for (const name of names) {
        const container = all.find((candidate) => candidate?.name === name);
        if (container?.state !== "running") found.push(`${setId}: ${name} does not run`);
        else if (container.specHash !== specHash(desired, name))
          found.push(`${setId}: ${name} is old`);
      }
      if (seen && !areLimitsApplied(desired.template, seen))
        found.push(`${setId} has another size`);
      if (all.length !== names.length) found.push(`${setId} has ${all.length} containers`);
    }
    if (report?.generation !== desired.generation || report.state !== desired.desired) {
      found.push(
        `${setId}: ${desired.desired} ${desired.generation}, reported ${JSON.stringify(report)}`,
      );
    } else if (desired.desired === "running" && !report.ready)
      found.push(`${setId} is not reported ready`);
    return found;
  }

  /** The port of one run. No two calls for one set may overlap, except the probes of one step. */
  #port(run: AgentRun): SetPort {
    const port = createSimulatedSetPort(this.engine, ownHost, (call, signal) =>
      this.#intercept(run, call, signal),
    );
    const calls = new Set<PortCall>();
    const during = async <T>(call: PortCall, work: () => Promise<T>): Promise<T> => {
      const other = [...calls].find((one) => isConflict(one, call));
      if (other) this.#violate(`${describeCall(call)} during ${describeCall(other)}`);
      calls.add(call);
      try {
        return await work();
      } finally {
        calls.delete(call);
      }
    };
    const ofSet = <T>(verb: string, setId: string, work: () => Promise<T>) =>
      during({ verb, setId, container: undefined }, work);
    return {
      ...port,
      observe: async (signal, onUnseen) => {
        const all = await port.observe(signal);
        return all.filter(({ setId }) => {
          if (!this.unseen.has(setId)) return true;
          if (!onUnseen) throw createUnseen(setId);
          onUnseen(setId, createUnseen(setId));
          return false;
        });
      },
      observeSet: async (setId, signal) => {
        if (this.unseen.has(setId)) throw createUnseen(setId);
        return port.observeSet(setId, signal);
      },
      watch: (onChange, signal, onOpen) => {
        this.reopenEvents = () => onOpen?.();
        const onEvent = (setId: string) => {
          if (!this.losesEvents) onChange(setId);
        };
        return port.watch(onEvent, signal, onOpen);
      },
      prepare: (set, signal, options) =>
        ofSet("prepare", set.setId, () => port.prepare(set, signal, options)),
      prepareContainer: (set, container, signal) =>
        during({ verb: "prepareContainer", setId: set.setId, container }, () =>
          port.prepareContainer(set, container, signal),
        ),
      resize: (set, signal) => ofSet("resize", set.setId, () => port.resize(set, signal)),
      start: (set, names, signal, options) =>
        during({ verb: "start", setId: set.setId, container: names[0] }, () =>
          port.start(set, names, signal, options),
        ),
      stop: (set, names, signal) =>
        during({ verb: "stop", setId: set.setId, container: names[0] }, () =>
          port.stop(set, names, signal),
        ),
      remove: (setId, signal, options) =>
        ofSet("remove", setId, () => port.remove(setId, signal, options)),
      stopAll: (setId, signal, options) =>
        ofSet("stopAll", setId, () => port.stopAll(setId, signal, options)),
      postStart: (set, target, signal) =>
        during({ verb: "postStart", setId: set.setId, container: target.container.name }, () =>
          port.postStart(set, target, signal),
        ),
      probe: (set, target, signal) =>
        during({ verb: "probe", setId: set.setId, container: target.container.name }, () =>
          port.probe(set, target, signal),
        ),
    };
  }

  #violate(text: string): void {
    if (!this.violations.includes(text)) this.violations.push(text);
  }

  async #intercept(run: AgentRun, call: SimulatedCall, signal: AbortSignal): Promise<void> {
    if (run.isDead()) return never;
    const { verb, at, setId, generation } = call;
    if (at === "begin") this.callCounts.set(verb, (this.callCounts.get(verb) ?? 0) + 1);
    if (setId !== undefined && verb !== "observe") this.#checkCall(call, setId, generation);
    while (this.hangs(call)) {
      await sleep(this.clock, 500, signal);
      signal.throwIfAborted();
    }
    await this.#disturb(verb, at, signal);
    return run.isDead() ? never : undefined;
  }

  /**
   * Simulates an engine that hangs, and calls that fail or take long. Each of them ends when the
   * caller aborts it.
   */
  async #disturb(
    verb: SimulatedCall["verb"],
    at: SimulatedCall["at"],
    signal: AbortSignal,
  ): Promise<void> {
    if (this.isEngineUnreachable) {
      const options = { phase: "observe" as const, temporary: true };
      throw new AgentError("docker-unavailable", "connection refused", options);
    }
    while (this.isEngineHung || this.hanging.has(verb)) {
      await sleep(this.clock, 500, signal);
      signal.throwIfAborted();
    }
    const { fail, hang } = this.portFaults;
    if (hang > 0 && this.random() < hang) {
      await sleep(this.clock, this.random() * hangMsMax, signal);
      signal.throwIfAborted();
    }
    if (this.failing.has(verb)) {
      throw new AgentError("docker-error", "refused", { phase: "run", temporary: true });
    }
    if (fail > 0 && this.random() < fail) {
      const code = this.random() < 0.5 ? "docker-unavailable" : "docker-error";
      throw new AgentError(code, `${verb} failed at its ${at}`, { phase: "run", temporary: true });
    }
  }

  #checkCall({ verb, at }: SimulatedCall, setId: string, generation: number | undefined): void {
    if (at !== "begin") return;
    if (verb !== "probe") this.changes.push(`${verb} ${setId}`);
    const highest = this.#highestGeneration.get(setId) ?? 0;
    if (generation !== undefined && generation < highest) {
      this.#violate(`${verb} of generation ${generation} after ${highest} of ${setId}`);
    }
    this.#highestGeneration.set(setId, Math.max(highest, generation ?? 0));
    if (verb === "remove" && !this.plane.ended.has(setId)) {
      this.#violate(`${setId} is removed without a request`);
    }
  }

  /**
   * Within one run of the agent and one generation, states only go forward. Generations never
   * decrease.
   */
  #checkReport(run: AgentRun, report: ObservedSet): void {
    const last = run.reported.get(report.setId);
    run.reported.set(report.setId, report);
    if (!last || last.generation < report.generation) return;
    if (last.generation > report.generation) this.#violate(`${report.setId} went back`);
    const isRepeated = last.state === report.state;
    const isOnward = nextStates.get(last.state)?.has(report.state) ?? false;
    if (!isRepeated && !isOnward) {
      this.#violate(`${report.setId} went from ${last.state} to ${report.state}`);
    }
  }

  #check(): void {
    if (JSON.stringify(this.engine.observe(otherHost)) !== JSON.stringify(this.#foreign)) {
      this.#violate("a foreign set was changed");
      this.#foreign = this.engine.observe(otherHost);
    }
  }
}

const nothing = { cpuMillis: 0, memoryBytes: 0, volumeBytes: 0, rootfsBytes: 0 };

function createUnseen(setId: string): AgentError {
  return new AgentError("docker-unavailable", `Docker does not answer for ${setId}`, {
    phase: "observe",
    temporary: true,
  });
}

/** A call of the port that is in progress; without a container, for the whole set. */
interface PortCall {
  verb: string;
  setId: string;
  container: string | undefined;
}

/** Calls for one container. */
const containerVerbs = ["start", "postStart", "stop", "probe", "prepareContainer"];

/** True if the agent must not overlap two calls (ports/set-port.ts). */
function isConflict(before: PortCall, after: PortCall): boolean {
  if (before.setId !== after.setId) return false;
  // The agent aborts probes before it changes something, and does not wait for them.
  if (before.verb === "probe" && after.verb !== "probe") return false;
  const verbs = [before.verb, after.verb];
  if (verbs.includes("resize")) return verbs.every((verb) => !containerVerbs.includes(verb));
  if (before.container === undefined || after.container === undefined) return true;
  return before.container === after.container;
}

function describeCall({ verb, setId, container }: PortCall): string {
  return `${verb} of ${container === undefined ? "" : `${container} in `}${setId}`;
}
