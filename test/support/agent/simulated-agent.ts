import {
  CAPABILITIES_HEADER,
  UNKNOWN_CAPABILITIES,
} from "../../../src/contracts/agent-protocol/agent-capabilities.ts";
import { Agent as HttpAgent } from "undici";
import { AgentError } from "../../../src/agent/base/agent-error.ts";
import { createControlPlane } from "../../../src/host-adapters/control-plane-client/control-plane.ts";
import { createMemoryCredentials } from "../../../src/host-adapters/control-plane-client/host-credentials.ts";
import { createSimulatedSetPort } from "../../../src/host-adapters/simulated/set-port.ts";
import { SimulatedEngine } from "../../../src/host-adapters/simulated/simulated-engine.ts";
import { type AgentStatus, createAgent } from "../../../src/agent/loop/agent.ts";
import type { AgentLimits } from "../../../src/agent/base/agent-limits.ts";
import { systemClock } from "../../../src/host-adapters/machine/system-clock.ts";
import { type ControlPlane, ControlPlaneError } from "../../../src/agent/ports/control-plane.ts";
import type { AgentState } from "../../../src/agent/ports/state-store.ts";
import type { ResourceAmounts } from "../../../src/contracts/common/primitives.ts";
import { syncResultSchema } from "../../../src/contracts/agent-protocol/sync.ts";
import { silentLog } from "../../../src/lib/log.ts";
import { enrollTestHost, type TestApi } from "../api/test-api.ts";

/**
 * The real agent of a host with simulated containers, in real time, connected to the API under
 * test.
 */
export interface SimulatedAgent {
  hostId: string;
  engine: SimulatedEngine;
  /** True while the connection to the API is cut. */
  isCut: boolean;
  /** True while Docker's socket refuses connections. */
  isDockerUnreachable: boolean;
  status(): AgentStatus;
  /** The error that ended the agent. */
  endedBy: unknown;
  /**
   * Restarts the agent, by default with its state file and the features of this build. Its
   * containers stay.
   */
  restart(options?: { losesState: boolean; features?: string[] }): Promise<void>;
  stop(): Promise<void>;
}

const allocatable = {
  cpuMillis: 8_000,
  memoryBytes: 8 * 2 ** 30,
  volumeBytes: 0,
  rootfsBytes: 100 * 2 ** 30,
};
const used = { cpuMillis: 0, memoryBytes: 0, volumeBytes: 0, rootfsBytes: 0 };

export async function startSimulatedAgent(
  test: TestApi,
  name: string,
  limits: Partial<AgentLimits> = {},
  found: {
    images?: string[];
    memory?: Record<string, number>;
    apiUrl?: string;
    used?: ResourceAmounts;
  } = {},
): Promise<SimulatedAgent> {
  const { hostId, credential } = await enrollTestHost(test, name);
  const engine = new SimulatedEngine({ clock: systemClock, images: found.images ?? [] });
  let stopping = new AbortController();
  const dispatcher = new HttpAgent();
  const credentials = createMemoryCredentials(credential, {
    signal: new AbortController().signal,
    log: silentLog,
  });
  const direct: ControlPlane = {
    async sync(body, signal, { capabilitiesVersion = UNKNOWN_CAPABILITIES } = {}) {
      const failIfCut = () => {
        if (simulated.isCut) throw new ControlPlaneError("the connection is cut", {});
      };
      failIfCut();
      const headers = { [CAPABILITIES_HEADER]: capabilitiesVersion };
      const options = { token: credential, headers, body, signal };
      const response = await test.request("POST", "/agent/v1/sync", options);
      failIfCut();
      if (response.status !== 200) throw new ControlPlaneError(await response.text(), {});
      return syncResultSchema.parse(await response.json());
    },
    uploadStream: async () => undefined,
  };
  const createApi = (features: string[] | undefined) =>
    found.apiUrl === undefined
      ? direct
      : createControlPlane({ apiUrl: found.apiUrl, credentials, dispatcher, features });
  const port = createSimulatedSetPort(engine, hostId, async () => {
    if (!simulated.isDockerUnreachable) return;
    const options = { phase: "observe" as const, temporary: true };
    throw new AgentError("docker-unavailable", "connection refused", options);
  });
  let saved: AgentState | undefined;
  const create = (features?: string[]) =>
    createAgent({
      hostId,
      agentVersion: "test",
      random: Math.random,
      clock: systemClock,
      port: { ...port, memoryUsage: async () => found.memory ?? {} },
      api: createApi(features),
      state: {
        load: async () => saved,
        save: async (state) => {
          saved = state;
        },
      },
      machine: {
        measure: async () => ({
          used: found.used ?? used,
          allocatable,
          reclaimableVolumeBytes: 0,
          trashedVolumeBytes: 0,
          volumeReason: null,
        }),
      },
      log: silentLog,
      limits: { waitMs: 500, usageIntervalMs: 1_000, ...limits },
    });
  const simulated: SimulatedAgent = {
    hostId,
    engine,
    isCut: false,
    isDockerUnreachable: false,
    status: () => agent.status(),
    endedBy: undefined,
    restart: async (options) => {
      await end();
      if (options?.losesState) saved = undefined;
      begin(options?.features);
    },
    stop: async () => {
      await end();
      await dispatcher.destroy();
    },
  };
  let agent = create();
  let ran: Promise<void> = Promise.resolve();
  const begin = (features?: string[]) => {
    stopping = new AbortController();
    agent = create(features);
    ran = agent.run(stopping.signal).catch((error: unknown) => {
      simulated.endedBy = error;
    });
  };
  const end = async () => {
    stopping.abort(new Error("the test ends"));
    await ran;
  };
  begin();
  return simulated;
}
