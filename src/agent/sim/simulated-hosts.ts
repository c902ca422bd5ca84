import { setMaxListeners } from "node:events";
import { Agent as HttpAgent, type Dispatcher } from "undici";
import { AGENT_PROTOCOL_VERSION } from "../../contracts/agent-protocol/protocol.ts";
import type { ResourceAmounts } from "../../contracts/common/primitives.ts";
import { type Log, silentLog } from "../../lib/log.ts";
import { createControlPlane, enrollHost } from "../adapters/http/control-plane.ts";
import { createSimulatedSetPort } from "../adapters/simulated/set-port.ts";
import {
  SimulatedEngine,
  type SimulatedEngineOptions,
} from "../adapters/simulated/simulated-engine.ts";
import { createAgent } from "../agent.ts";
import type { AgentLimits } from "../agent-limits.ts";
import { systemClock } from "../clock.ts";
import { createConcurrencyLimit } from "../../lib/async/concurrency-limit.ts";
import type { ControlPlane } from "../ports/control-plane.ts";
import type { MachinePort } from "../ports/machine-port.ts";
import type { AgentState, StateStore } from "../ports/state-store.ts";

export interface SimulatedHostsOptions {
  apiUrl: string;
  /** Enroll tokens work once: asked for one for each host. */
  enrollToken: (hostName: string) => Promise<string>;
  /** Hosts are called `prefix`-`first`, and so on. */
  prefix: string;
  first: number;
  hosts: number;
  /** Hosts are dealt out to so many zones, and within a zone to so many racks. */
  zones: number;
  racks: number;
  /** Of each host. What its sets were promised is what it reports as used. */
  allocatable: ResourceAmounts;
  signal: AbortSignal;
  onProgress?: (enrolled: number) => void;
  /** All hosts are enrolled and have reported. */
  onReady?: () => void;
  /** The API did not answer a sync within `ANSWER_DEADLINE_MS` beyond the wait that the sync allows. */
  onTimeout?: () => void;
  /** Below the age at which the control plane gives a host nothing new. */
  usageIntervalMs?: number;
  containers?: Partial<SimulatedEngineOptions>;
  log?: Log;
}

/** The agent gives up a call after the same time: see adapters/http/control-plane.ts. */
const ANSWER_DEADLINE_MS = 15_000;
const enrolmentsMax = 32;
/** Reports of all hosts share these; what waits for news holds a connection each. */
const reportConnectionsMax = 64;

/**
 * Made for many hosts in one process: what a real agent does every few seconds to catch what Docker did behind its back,
 * these do rarely, since nothing happens behind a simulated engine's back.
 */
const quietLimits: Partial<AgentLimits> = {
  fullIntervalMs: 600_000,
  lookIntervalMs: 3_600_000,
  pingIntervalMs: 3_600_000,
  imagesIntervalMs: 3_600_000,
  stopDeadlineMs: 1_000,
  lastReportTimeoutMs: 1_000,
};

/**
 * Runs hosts whose containers are simulated, and nothing else is: the agent, its loops and the protocol over HTTP are the
 * real ones. Nothing is kept on a disk. Resolves when `signal` is aborted and all have stopped; rejects with the first
 * error that ends an agent, or an enrolment.
 */
export async function runSimulatedHosts(options: SimulatedHostsOptions): Promise<void> {
  const { signal, hosts, onProgress, onReady } = options;
  const waiting = new HttpAgent({ connections: null, keepAliveTimeout: 60_000 });
  const reporting = new HttpAgent({ connections: reportConnectionsMax, keepAliveTimeout: 60_000 });
  const stopping = new AbortController();
  setMaxListeners(0, stopping.signal); // every host listens
  const stop = () => stopping.abort(new Error("the simulation ends"));
  signal.addEventListener("abort", stop, { once: true });
  const enrolling = createConcurrencyLimit(enrolmentsMax);
  let enrolled = 0;
  let synced = 0;
  const runs = Array.from({ length: hosts }, async (_, position) => {
    const agent = await enrolling(async () => {
      stopping.signal.throwIfAborted();
      const host = await enrollSimulated(
        options,
        options.first + position,
        reporting,
        stopping.signal,
      );
      enrolled++;
      onProgress?.(enrolled);
      return createSimulatedAgent(options, host, { waiting, reporting }, () => {
        synced++;
        if (synced === hosts) onReady?.();
      });
    });
    await agent.run(stopping.signal);
  });
  try {
    const allRun = Promise.all(runs);
    allRun.catch(stop);
    await allRun;
  } catch (error) {
    if (!signal.aborted) throw error;
  } finally {
    stop();
    await Promise.allSettled(runs);
    signal.removeEventListener("abort", stop);
    await Promise.all([waiting.destroy(), reporting.destroy()]);
  }
}

interface SimulatedHost {
  hostId: string;
  credential: string;
}

async function enrollSimulated(
  options: SimulatedHostsOptions,
  number: number,
  dispatcher: Dispatcher,
  signal: AbortSignal,
): Promise<SimulatedHost> {
  const { apiUrl, prefix, zones, racks, allocatable } = options;
  const name = `${prefix}-${number}`;
  const zone = number % zones;
  const rack = Math.floor(number / zones) % racks;
  const enrollToken = await options.enrollToken(name);
  return enrollHost(
    { apiUrl, dispatcher, enrollToken },
    {
      protocol: AGENT_PROTOCOL_VERSION,
      name,
      zone: `zone-${zone}`,
      rack: `zone-${zone}-rack-${rack}`,
      labels: { simulated: "true" },
      allocatable,
      agentVersion: "simulated",
    },
    signal,
  );
}

function createSimulatedAgent(
  options: SimulatedHostsOptions,
  { hostId, credential }: SimulatedHost,
  connections: { waiting: Dispatcher; reporting: Dispatcher },
  onFirstReport: () => void,
) {
  const { apiUrl, allocatable, usageIntervalMs = 30_000, log = silentLog, containers } = options;
  const engine = new SimulatedEngine({ clock: systemClock, ...containers });
  const state = createMemoryStore();
  return createAgent({
    hostId,
    agentVersion: "simulated",
    port: createSimulatedSetPort(engine, hostId),
    api: createSharedControlPlane(
      { apiUrl, credential, ...connections },
      {
        onFirstReport,
        onTimeout: options.onTimeout,
      },
    ),
    state,
    machine: createSimulatedMachine(allocatable, () => state.load()),
    log,
    limits: { ...quietLimits, usageIntervalMs },
  });
}

/** Syncs that wait hold a connection of their own, the short ones share a few. */
function createSharedControlPlane(
  target: { apiUrl: string; credential: string; waiting: Dispatcher; reporting: Dispatcher },
  { onFirstReport, onTimeout }: { onFirstReport: () => void; onTimeout: (() => void) | undefined },
): ControlPlane {
  const { apiUrl, credential } = target;
  const waiting = createControlPlane({ apiUrl, credential, dispatcher: target.waiting });
  const reporting = createControlPlane({ apiUrl, credential, dispatcher: target.reporting });
  let hasReported = false;
  return {
    async sync(body, signal) {
      const deadlineMs = performance.now() + body.waitMs + ANSWER_DEADLINE_MS;
      const result = await (body.waitMs > 0 ? waiting : reporting)
        .sync(body, signal)
        .catch((error: unknown) => {
          if (performance.now() >= deadlineMs) onTimeout?.();
          throw error;
        });
      if (body.usage && !hasReported) {
        hasReported = true;
        onFirstReport();
      }
      return result;
    },
    uploadStream: (streamId, content, signal) => reporting.uploadStream(streamId, content, signal),
  };
}

function createMemoryStore(): StateStore {
  let kept: AgentState | undefined;
  return {
    load: async () => kept,
    save: async (state) => {
      kept = state;
    },
  };
}

/** Uses what the sets that should run here were promised, in each dimension. */
function createSimulatedMachine(
  allocatable: ResourceAmounts,
  load: () => Promise<AgentState | undefined>,
): MachinePort {
  return {
    async measure() {
      const used: ResourceAmounts = {
        cpuMillis: 0,
        memoryBytes: 0,
        volumeBytes: 0,
        rootfsBytes: 0,
      };
      for (const { desired, template } of (await load())?.desired ?? []) {
        if (desired !== "running") continue;
        used.cpuMillis += template.cpuMillis;
        used.memoryBytes += template.memoryBytes;
        used.volumeBytes += template.volume?.sizeBytes ?? 0;
        used.rootfsBytes += template.rootfsBytes;
      }
      return {
        used,
        allocatable,
        reclaimableVolumeBytes: 0,
        trashedVolumeBytes: 0,
        volumeReason: null,
      };
    },
  };
}
