import { setMaxListeners } from "node:events";
import { Agent as HttpAgent, type Dispatcher } from "undici";
import { AGENT_PROTOCOL_VERSION } from "../../contracts/agent-protocol/protocol.ts";
import type { ResourceAmounts } from "../../contracts/common/primitives.ts";
import { type Log, silentLog } from "../../lib/log.ts";
import {
  createControlPlane,
  enrollHost,
} from "../../host-adapters/control-plane-client/control-plane.ts";
import {
  createMemoryCredentials,
  type HostCredentials,
} from "../../host-adapters/control-plane-client/host-credentials.ts";
import { createSimulatedSetPort } from "../../host-adapters/simulated/set-port.ts";
import {
  SimulatedEngine,
  type SimulatedEngineOptions,
  type SimulatedIntercept,
} from "../../host-adapters/simulated/simulated-engine.ts";
import { createAgent } from "../../agent/loop/agent.ts";
import type { AgentLimits } from "../../agent/base/agent-limits.ts";
import { systemClock } from "../../host-adapters/machine/system-clock.ts";
import { createConcurrencyLimit } from "../../lib/async/concurrency-limit.ts";
import type { ControlPlane } from "../../agent/ports/control-plane.ts";
import type { MachinePort } from "../../agent/ports/machine-port.ts";
import type { AgentState, StateStore } from "../../agent/ports/state-store.ts";

export interface SimulatedHostsOptions {
  apiUrl: string;
  /** Creates an enroll token. Each token works once, so each host requests its own. */
  enrollToken: (hostName: string) => Promise<string>;
  /** Host names are `prefix`-`first`, `prefix`-`first + 1`, and so on. */
  prefix: string;
  first: number;
  hosts: number;
  /** The number of zones for the hosts, and of racks for the hosts of each zone. */
  zones: number;
  racks: number;
  /** Capacity of each host. A host reports the capacity that its sets reserve as used. */
  allocatable: ResourceAmounts;
  signal: AbortSignal;
  onProgress?: (enrolled: number) => void;
  /** Called once, when all hosts are enrolled and have reported. */
  onReady?: () => void;
  /**
   * Called when the API does not answer a sync within `ANSWER_DEADLINE_MS` beyond the wait that the
   * sync allows.
   */
  onTimeout?: () => void;
  /** Must be below the report age at which the control plane places no set on a host. */
  usageIntervalMs?: number;
  containers?: Partial<SimulatedEngineOptions>;
  /** Sees each call of an agent to its containers. */
  intercept?: SimulatedIntercept;
  /** Replace the long intervals. */
  limits?: Partial<AgentLimits>;
  log?: Log;
}

/** The agent's own call timeout (adapters/http/control-plane.ts). */
const ANSWER_DEADLINE_MS = 15_000;
const enrollmentsMax = 32;
/** Reports of all hosts share these connections. Each long poll has a connection of its own. */
const reportConnectionsMax = 64;

/**
 * Long intervals for many hosts in one process. A real agent polls often to detect changes without
 * events, but a simulated engine never loses an event.
 */
const longIntervals: Partial<AgentLimits> = {
  fullIntervalMs: 600_000,
  resyncIntervalMs: 3_600_000,
  pingIntervalMs: 3_600_000,
  imagesIntervalMs: 3_600_000,
  stopDeadlineMs: 1_000,
  lastReportTimeoutMs: 1_000,
};

/**
 * Runs hosts with simulated containers. The agent, its loops and the protocol over HTTP are real.
 * Nothing is stored on disk. Resolves when `signal` is aborted and all agents have stopped. Rejects
 * with the first error that ends an agent or an enrollment.
 */
export async function runSimulatedHosts(options: SimulatedHostsOptions): Promise<void> {
  const { signal, hosts, onProgress, onReady } = options;
  const waiting = new HttpAgent({ connections: null, keepAliveTimeout: 60_000 });
  const reporting = new HttpAgent({ connections: reportConnectionsMax, keepAliveTimeout: 60_000 });
  const stopping = new AbortController();
  setMaxListeners(0, stopping.signal); // every host adds a listener
  const stop = () => stopping.abort(new Error("the simulation ends"));
  signal.addEventListener("abort", stop, { once: true });
  const enrolling = createConcurrencyLimit(enrollmentsMax);
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
  const credentials = createMemoryCredentials(credential, { signal: options.signal, log });
  return createAgent({
    hostId,
    agentVersion: "simulated",
    random: Math.random,
    clock: systemClock,
    port: createSimulatedSetPort(engine, hostId, options.intercept),
    api: createSharedControlPlane(
      { apiUrl, credentials, ...connections },
      {
        onFirstReport,
        onTimeout: options.onTimeout,
      },
    ),
    state,
    machine: createSimulatedMachine(allocatable, () => state.load()),
    log,
    limits: { ...longIntervals, usageIntervalMs, ...options.limits },
  });
}

/** Assigns each long poll a connection of its own, and lets short syncs share a few. */
function createSharedControlPlane(
  target: {
    apiUrl: string;
    credentials: HostCredentials;
    waiting: Dispatcher;
    reporting: Dispatcher;
  },
  { onFirstReport, onTimeout }: { onFirstReport: () => void; onTimeout: (() => void) | undefined },
): ControlPlane {
  const { apiUrl, credentials } = target;
  const waiting = createControlPlane({ apiUrl, credentials, dispatcher: target.waiting });
  const reporting = createControlPlane({ apiUrl, credentials, dispatcher: target.reporting });
  let hasReported = false;
  return {
    async sync(body, signal, syncOptions) {
      const deadlineMs = performance.now() + body.waitMs + ANSWER_DEADLINE_MS;
      const result = await (body.waitMs > 0 ? waiting : reporting)
        .sync(body, signal, syncOptions)
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
  let saved: AgentState | undefined;
  return {
    load: async () => saved,
    save: async (state) => {
      saved = state;
    },
  };
}

/** Reports the capacity that this host's desired sets reserve as used, in each dimension. */
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
