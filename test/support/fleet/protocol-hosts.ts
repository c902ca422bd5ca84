import type { DesiredSet } from "../../../src/contracts/agent-protocol/desired-set.ts";
import type { ObservedSet } from "../../../src/contracts/agent-protocol/observed-set.ts";
import type { SyncResult } from "../../../src/contracts/agent-protocol/sync.ts";
import { emptySync, enrollTestHost, type TestApi } from "../api/test-api.ts";
import { runningContainer } from "./running-container.ts";

/**
 * Hosts that use the agent protocol with the API under test and immediately report every set as
 * desired. For tests of the layers above the agent; the agent has its own tests.
 */
export interface ProtocolHosts {
  /**
   * Runs one sync of each host. A host accepts the desired sets, and reports them done at the next
   * sync.
   */
  syncAll(): Promise<void>;
  /** Resizes to this amount of memory are refused, however often they are repeated. */
  refusedMemoryBytes: number | undefined;
}

const ample = {
  used: { cpuMillis: 0, memoryBytes: 0, volumeBytes: 0, rootfsBytes: 0 },
  allocatable: {
    cpuMillis: 8_000,
    memoryBytes: 8 * 2 ** 30,
    volumeBytes: 0,
    rootfsBytes: 100 * 2 ** 30,
  },
};

export async function enrollProtocolHosts(
  test: TestApi,
  names: readonly string[],
): Promise<ProtocolHosts> {
  const hosts = await Promise.all(
    names.map(async (name) => {
      const { credential } = await enrollTestHost(test, name);
      return { credential, generation: 0, observed: [] as ObservedSet[] };
    }),
  );
  const syncAll = async (): Promise<void> => {
    for (const host of hosts) {
      const response = await test.request("POST", "/agent/v1/sync", {
        token: host.credential,
        body: {
          ...emptySync,
          acceptedGeneration: host.generation,
          observed: host.observed,
          usage: ample,
        },
      });
      if (response.status !== 200) throw new Error(await response.text());
      const received = (await response.json()) as SyncResult;
      host.generation = received.hostGeneration;
      host.observed = received.sets.map((set) =>
        set.template.memoryBytes === all.refusedMemoryBytes ? asRefused(set) : asDesired(set),
      );
    }
  };
  const all: ProtocolHosts = { syncAll, refusedMemoryBytes: undefined };
  await syncAll();
  return all;
}

function asRefused(set: DesiredSet): ObservedSet {
  const reason = { code: "memory-in-use", text: "it uses more", phase: "resize" };
  return { ...asDesired(set), reason, sized: false, sizeRefused: true };
}

function asDesired(set: DesiredSet): ObservedSet {
  const state = ({ running: "running", stopped: "stopped", deleted: "absent" } as const)[
    set.desired
  ];
  const runs = state === "running";
  return {
    setId: set.setId,
    generation: set.generation,
    state,
    ready: runs,
    reason: null,
    gaveUp: false,
    address: runs ? "172.17.0.2" : null,
    sized: true,
    sizeRefused: false,
    containers: runs ? [runningContainer({ startedAt: new Date().toISOString() })] : [],
  };
}
