import type { DesiredSet } from "../../../src/contracts/agent-protocol/desired-set.ts";
import type { Enrolled } from "../../../src/contracts/agent-protocol/enroll.ts";
import type { ObservedSet } from "../../../src/contracts/agent-protocol/observed-set.ts";
import { AGENT_PROTOCOL_VERSION } from "../../../src/contracts/agent-protocol/protocol.ts";
import type { SyncResult } from "../../../src/contracts/agent-protocol/sync.ts";

/**
 * Sends and receives JSON over the network. Throws an error with the whole problem if the request
 * fails.
 */
export async function requestJson<T>(
  url: string,
  method: string,
  token: string,
  body?: unknown,
): Promise<T> {
  const response = await fetch(url, {
    method,
    headers: {
      Authorization: `Bearer ${token}`,
      ...(body === undefined ? {} : { "Content-Type": "application/json" }),
    },
    signal: AbortSignal.timeout(40_000),
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  const text = await response.text();
  if (!response.ok) throw new Error(`${method} ${url} answered ${response.status}: ${text}`);
  return (text === "" ? undefined : JSON.parse(text)) as T;
}

/** A host that uses the agent protocol over the network and reports every set as desired. */
export class HttpHost {
  readonly hostId: string;
  /** Those of the last answer that had any. */
  registryCredentials: SyncResult["registryCredentials"];
  readonly #url: string;
  readonly #credential: string;
  readonly #observed = new Map<string, ObservedSet>();
  #generation = 0;
  #cores: number;

  private constructor(url: string, enrolled: Enrolled, cores: number) {
    this.#url = url;
    this.hostId = enrolled.hostId;
    this.#credential = enrolled.credential;
    this.#cores = cores;
  }

  static async enroll(
    url: string,
    adminToken: string,
    name: string,
    cores = 64,
  ): Promise<HttpHost> {
    const { secret } = await requestJson<{ secret: string }>(
      `${url}/v1/tokens`,
      "POST",
      adminToken,
      {
        name: `enroll-${name}`,
        role: "enroll",
      },
    );
    const enrolled = await requestJson<Enrolled>(`${url}/agent/v1/enroll`, "POST", secret, {
      protocol: AGENT_PROTOCOL_VERSION,
      name,
      allocatable: toResources(cores),
      agentVersion: "test",
    });
    const host = new HttpHost(url, enrolled, cores);
    await host.sync();
    return host;
  }

  /** Runs one sync, and returns the desired sets that it received. */
  async sync(waitMs = 0): Promise<DesiredSet[]> {
    const received = await requestJson<SyncResult>(
      `${this.#url}/agent/v1/sync`,
      "POST",
      this.#credential,
      {
        protocol: AGENT_PROTOCOL_VERSION,
        agentVersion: "test",
        acceptedGeneration: this.#generation,
        full: false,
        waitMs,
        observed: [...this.#observed.values()],
        docker: { state: "ok", detail: "" },
        usage: {
          used: { cpuMillis: 0, memoryBytes: 0, volumeBytes: 0, rootfsBytes: 0 },
          allocatable: toResources(this.#cores),
        },
        images: null,
      },
    );
    this.#generation = received.hostGeneration;
    this.registryCredentials = received.registryCredentials ?? this.registryCredentials;
    this.#observed.clear();
    for (const set of received.sets) this.#observed.set(set.setId, asDesired(set));
    return received.sets;
  }
}

function toResources(cores: number) {
  return {
    cpuMillis: cores * 1_000,
    memoryBytes: cores * 2 ** 32,
    volumeBytes: 0,
    rootfsBytes: cores * 2 ** 33,
  };
}

function asDesired(set: DesiredSet): ObservedSet {
  const states = { running: "running", stopped: "stopped", deleted: "absent" } as const;
  const state = states[set.desired];
  return {
    setId: set.setId,
    generation: set.generation,
    state,
    ready: state === "running",
    reason: null,
    gaveUp: false,
    address: state === "running" ? "172.17.0.2" : null,
    sized: true,
    sizeRefused: false,
    containers: [],
  };
}

/** A service of one small container: a tenth of a core and 64 MiB a set. */
export function smallService(name: string, replicas: number) {
  return {
    name,
    replicas,
    template: {
      cpu: 0.1,
      memory: "64Mi",
      rootfs: "64Mi",
      containers: [{ index: 0, name: "app", image: "menu:42", options: { cpu: 100, memory: 100 } }],
    },
  };
}
