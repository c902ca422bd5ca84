import { setPriority } from "node:os";
import { AGENT_PROTOCOL_VERSION } from "../../src/contracts/agent-protocol/protocol.ts";
import { createEmptySync } from "../../src/agent/reporting/send-sync.ts";
import type { DurableCluster } from "./durable-cluster.ts";

/**
 * Probes measure the latency of single requests under other load. A probe sends a request at a
 * fixed interval, without waiting for earlier answers. A slow answer therefore hides no later one.
 */

const AUTH_INTERVAL_MS = 50;
const SYNC_INTERVAL_MS = 100;
const SYNC_HOSTS = 10;
const IN_FLIGHT_MAX = 200;
const TOKEN_CLIENTS = 16;
const MEASURING_PRIORITY = -10;
/** A probe records this for a request that fails: no target allows it. */
const FAILED_MS = 60_000;

export interface Probe {
  /** Waits for the requests in flight, then gives the duration of each request in milliseconds. */
  stop(): Promise<number[]>;
}

/** Tokens of which each authenticates one request, so that no cache in the API knows it. */
export async function createProbeTokens(cluster: DurableCluster, count: number): Promise<string[]> {
  const secrets: string[] = [];
  const createSome = async (): Promise<void> => {
    while (secrets.length < count) {
      const { secret } = await cluster.request<{ secret: string }>("POST", "/v1/tokens", {
        name: "probe",
        role: "read",
      });
      secrets.push(secret);
    }
  };
  await Promise.all(Array.from({ length: TOKEN_CLIENTS }, createSome));
  return secrets;
}

/** Reads a service every 50 ms with a new token of `secrets`. Stops early when no token is left. */
export function startAuthProbe(
  cluster: DurableCluster,
  secrets: string[],
  serviceName: string,
): Probe {
  return startProbe(AUTH_INTERVAL_MS, () => {
    const secret = secrets.pop();
    if (secret === undefined) return undefined;
    return cluster.requestAs(secret, "GET", `/v1/services/${serviceName}`);
  });
}

interface ProbeHost {
  credential: string;
  hostId: string;
}

/** Enrolls hosts without capacity: they sync as idle hosts do, and get no set. */
export async function enrollProbeHosts(cluster: DurableCluster): Promise<ProbeHost[]> {
  const hosts: ProbeHost[] = [];
  for (let number = 0; number < SYNC_HOSTS; number++) {
    const name = `probe-${number}`;
    const { secret } = await cluster.request<{ secret: string }>("POST", "/v1/tokens", {
      name,
      role: "enroll",
    });
    const none = { cpuMillis: 0, memoryBytes: 0, volumeBytes: 0, rootfsBytes: 0 };
    const body = {
      protocol: AGENT_PROTOCOL_VERSION,
      name,
      allocatable: none,
      agentVersion: "probe",
    };
    hosts.push(await cluster.requestAs<ProbeHost>(secret, "POST", "/agent/v1/enroll", body));
  }
  return hosts;
}

/** Sends a sync without news every 100 ms, of one host after the other. */
export function startSyncProbe(cluster: DurableCluster, hosts: readonly ProbeHost[]): Probe {
  let count = 0;
  return startProbe(SYNC_INTERVAL_MS, () => {
    const host = hosts[count++ % hosts.length];
    if (!host) return undefined;
    return cluster.requestAs(
      host.credential,
      "POST",
      "/agent/v1/sync",
      createEmptySync("probe", 0),
    );
  });
}

/**
 * Raises the priority of this process. A real client runs on another machine, so Berth is not the
 * cause if this one waits for the CPU. Changes nothing without root.
 */
function prioritizeMeasurement(): void {
  try {
    setPriority(MEASURING_PRIORITY);
  } catch {
    process.stderr.write("the probes run without priority: this needs root\n");
  }
}

function startProbe(intervalMs: number, send: () => Promise<unknown> | undefined): Probe {
  prioritizeMeasurement();
  const durationsMs: number[] = [];
  const inFlight = new Set<Promise<void>>();
  const timer = setInterval(() => {
    if (inFlight.size >= IN_FLIGHT_MAX) {
      durationsMs.push(FAILED_MS);
      return;
    }
    const startedAtMs = performance.now();
    const answer = send();
    if (!answer) return;
    const settled = answer
      .then(
        () => durationsMs.push(performance.now() - startedAtMs),
        () => durationsMs.push(FAILED_MS),
      )
      .then(() => void inFlight.delete(settled));
    inFlight.add(settled);
  }, intervalMs);
  return {
    async stop() {
      clearInterval(timer);
      await Promise.all(inFlight);
      return durationsMs;
    },
  };
}
