import { setTimeout as delay } from "node:timers/promises";
import { AGENT_PROTOCOL_VERSION } from "../../src/contracts/agent-protocol/protocol.ts";
import { CAPABILITIES_HEADER } from "../../src/contracts/agent-protocol/agent-capabilities.ts";
import type { DesiredSet } from "../../src/contracts/agent-protocol/desired-set.ts";
import type { Enrolled } from "../../src/contracts/agent-protocol/enroll.ts";
import type { SyncResult } from "../../src/contracts/agent-protocol/sync.ts";
import type { Service } from "../../src/contracts/api/services.ts";
import type { BerthSet } from "../../src/contracts/api/sets.ts";
import { baseImage } from "../support/docker/docker.ts";
import { removeHost } from "../support/docker/docker-host.ts";
import { EndpointReader } from "../support/api/endpoint-reader.ts";
import { waitUntil } from "../support/wait-until.ts";
import { deleteService } from "./bench-services.ts";
import { type BerthHost, startBerthHost } from "./berth-host.ts";
import { ADMIN_TOKEN } from "./main-processes.ts";
import type { NetworkHost } from "./network-hosts.ts";
import { watchDns } from "./network-load.ts";
import { percentile } from "./percentile.ts";
import { benchTemplate } from "./straight-docker.ts";

/**
 * The time from an agent's report of a change of readiness until a client that follows the
 * endpoints has it. And the time until the DNS server of a different host answers with it.
 *
 * API, job worker and the agent of that host are separate processes. This program is the agent that
 * reports, so it knows when the report leaves. A set on the other host asks its DNS server every
 * five milliseconds.
 */

const PAUSE_MS_MAX = 120;
const CHANGE_DEADLINE_MS = 20_000;
const START_DEADLINE_MS = 120_000;
const network = "small";
const dnsName = "web.berth.internal";

export async function measureEndpoints(
  host: NetworkHost,
  changes: number,
): Promise<Record<string, number>> {
  const berth = await startBerthHost({
    agentSettings: {
      BERTH_AGENT_NAME: "asking",
      BERTH_AGENT_SELF_TEST: "off",
      BERTH_DOCKER_SOCKET: host.driverHost.privateDocker.socketPath,
      BERTH_VOLUME_BACKEND: "none",
      BERTH_NETWORK_PLUGIN: host.driverHost.plugin,
      BERTH_NETWORK_CONTROL_SOCKET: host.driverHost.controlSocket,
      BERTH_TUNNEL_ADDRESS: host.tunnelAddress,
    },
  });
  try {
    await waitUntil("the host has networks", async () => {
      const { items } = await berth.request<{
        items: { capabilities: { features: string[] } | null }[];
      }>("GET", "/v1/hosts");
      return items[0]?.capabilities?.features.includes("networks");
    });
    await createNetwork(berth);
    const client = await startClient(berth, host);
    const reporting = await ReportingHost.enroll(berth);
    await berth.request("POST", `/v1/hosts/${berth.hostId}/cordon`);
    await untilNextSweep(berth);
    await createService(berth, "web", 2);
    await waitUntil("its sets are placed", () => reporting.accept(2), {
      deadlineMs: START_DEADLINE_MS,
    });
    return await measureChanges(berth, { reporting, client, changes });
  } finally {
    await deleteService(host.driverHost.docker, berth, "client").catch(() => undefined);
    await berth.stop();
    await removeHost(host.driverHost.docker, berth.hostId);
  }
}

/**
 * Creates a network with exactly one address for each set, and for the service addresses of the
 * first two services. So the third one has none, and its name leads to its endpoints.
 */
async function createNetwork(berth: BerthHost): Promise<void> {
  const pools = ["10.70.0.10-10.70.0.14"];
  const subnets = [{ cidr: "10.70.0.0/24", pools }];
  await berth.request("POST", "/v1/networks", { name: network, subnets });
}

/** Resolves when a sweep has just assigned service addresses: the next one is a second later. */
async function untilNextSweep(berth: BerthHost): Promise<void> {
  await createService(berth, "second", 0);
  const hasAddress = async (name: string) => {
    const path = `/v1/services/${name}`;
    return (await berth.request<Service>("GET", path)).addresses.length > 0;
  };
  await waitUntil("services have addresses", async () => {
    return (await hasAddress("client")) && (await hasAddress("second"));
  });
}

interface Client {
  enter: string[];
  gateway: string;
}

/** Starts the set that asks the DNS server of its host. */
async function startClient(berth: BerthHost, { driverHost }: NetworkHost): Promise<Client> {
  await createService(berth, "client", 1);
  const set = await waitUntil(
    "the client runs",
    async () => {
      const { items } = await berth.request<{ items: BerthSet[] }>("GET", "/v1/sets");
      return items.find(({ ready }) => ready);
    },
    { deadlineMs: START_DEADLINE_MS },
  );
  const { State, NetworkSettings } = await driverHost.docker
    .getContainer(`berth-${set.id}-infra`)
    .inspect();
  const [attached] = Object.values(NetworkSettings.Networks);
  return { enter: [`--net=/proc/${State.Pid}/ns/net`], gateway: attached?.Gateway ?? "" };
}

async function createService(berth: BerthHost, name: string, replicas: number): Promise<void> {
  const template = { ...benchTemplate(baseImage), networks: [{ network }] };
  await berth.request("POST", "/v1/services", { name, replicas, template });
}

interface Arrivals {
  /** By the number of endpoints that the follower and the DNS server have. */
  followed: number | undefined;
  resolved: number | undefined;
  atMs: { followed: number; resolved: number };
}

async function measureChanges(
  berth: BerthHost,
  { reporting, client, changes }: { reporting: ReportingHost; client: Client; changes: number },
): Promise<Record<string, number>> {
  const arrivals: Arrivals = {
    followed: undefined,
    resolved: undefined,
    atMs: { followed: 0, resolved: 0 },
  };
  const endFollowing = await followEndpoints(berth, (total) => {
    arrivals.followed = total;
    arrivals.atMs.followed = Date.now();
  });
  const endWatching = watchDns(client, { server: client.gateway, name: dnsName }, (answer) => {
    arrivals.resolved = answer.addresses.length;
    arrivals.atMs.resolved = answer.atMs;
  });
  const followedMs: number[] = [];
  const resolvedMs: number[] = [];
  const settled = async (total: number) =>
    waitUntil(
      `${total} endpoints are known`,
      () => arrivals.followed === total && arrivals.resolved === total,
      { deadlineMs: CHANGE_DEADLINE_MS, everyMs: 5 },
    );
  try {
    await reporting.report(2);
    await settled(2);
    for (let change = 0; change < changes; change++) {
      const total = change % 2 === 0 ? 1 : 2;
      await delay(Math.random() * PAUSE_MS_MAX);
      const reportedAtMs = Date.now();
      await reporting.report(total);
      await settled(total);
      followedMs.push(arrivals.atMs.followed - reportedAtMs);
      resolvedMs.push(arrivals.atMs.resolved - reportedAtMs);
    }
  } finally {
    endWatching();
    await endFollowing();
  }
  const figures = {
    endpointP99Ms: Math.max(percentile(followedMs, 99), percentile(resolvedMs, 99)),
    followedP50Ms: percentile(followedMs, 50),
    followedP99Ms: percentile(followedMs, 99),
    resolvedP50Ms: percentile(resolvedMs, 50),
    resolvedP99Ms: percentile(resolvedMs, 99),
  };
  process.stdout.write(
    `${changes} changes of readiness: a following client has them after ${figures.followedP50Ms} ms (p99 ${figures.followedP99Ms}), DNS after ${figures.resolvedP50Ms} ms (p99 ${figures.resolvedP99Ms})\n`,
  );
  return figures;
}

async function followEndpoints(
  berth: BerthHost,
  onTotal: (total: number) => void,
): Promise<() => Promise<void>> {
  const abort = new AbortController();
  const response = await fetch(`${berth.apiUrl}/v1/services/web/endpoints`, {
    headers: { accept: "text/event-stream", authorization: `Bearer ${ADMIN_TOKEN}` },
    signal: abort.signal,
  });
  if (!response.body) throw new Error("a stream has a body");
  const reader = new EndpointReader(response.body, abort);
  const read = async () => {
    for (;;) onTotal((await reader.next(START_DEADLINE_MS)).list.total);
  };
  read().catch((error: unknown) => {
    if (!abort.signal.aborted) process.stderr.write(`${String(error)}\n`);
  });
  return () => reader.close();
}

/** A host without containers. This program decides which of its sets are ready. */
class ReportingHost {
  readonly #berth: BerthHost;
  readonly #credential: string;
  #generation = 0;
  #sets: DesiredSet[] = [];

  private constructor(berth: BerthHost, credential: string) {
    this.#berth = berth;
    this.#credential = credential;
  }

  static async enroll(berth: BerthHost): Promise<ReportingHost> {
    const token = { name: "reporting", role: "enroll" };
    const { secret } = await berth.request<{ secret: string }>("POST", "/v1/tokens", token);
    const { credential } = await post<Enrolled>(`${berth.apiUrl}/agent/v1/enroll`, secret, {
      protocol: AGENT_PROTOCOL_VERSION,
      name: "reporting",
      allocatable: ample,
      agentVersion: "bench",
    });
    const host = new ReportingHost(berth, credential);
    await host.#sync([]);
    return host;
  }

  /** Accepts the desired sets, and returns true once there are as many. */
  async accept(count: number): Promise<boolean> {
    await this.#sync([]);
    return this.#sets.length === count;
  }

  /** Reports that all sets run, and that the first `ready` of them are ready. */
  async report(ready: number): Promise<void> {
    await this.#sync(
      this.#sets.map((set, place) => ({
        setId: set.setId,
        generation: set.generation,
        state: "running",
        ready: place < ready,
        reason: null,
        gaveUp: false,
        address: set.attachments?.[0]?.addresses[0]?.split("/")[0] ?? null,
        sized: true,
        sizeRefused: false,
        containers: [],
      })),
    );
  }

  async #sync(observed: readonly object[]): Promise<void> {
    const body = {
      protocol: AGENT_PROTOCOL_VERSION,
      agentVersion: "bench",
      acceptedGeneration: this.#generation,
      full: observed.length === 0,
      waitMs: 0,
      observed,
      docker: { state: "ok", detail: "" },
      usage: {
        used: { cpuMillis: 0, memoryBytes: 0, volumeBytes: 0, rootfsBytes: 0 },
        allocatable: ample,
      },
      images: null,
      capabilities: {
        features: ["networks"],
        docker: null,
        setsMax: null,
        selfTest: null,
        otherHostVolumes: null,
        tunnelAddress: "172.31.0.2",
      },
    };
    const url = `${this.#berth.apiUrl}/agent/v1/sync`;
    const answer = await post<SyncResult>(url, this.#credential, body);
    this.#generation = answer.hostGeneration;
    if (answer.full) this.#sets = answer.sets.toSorted((a, b) => (a.setId < b.setId ? -1 : 1));
  }
}

const ample = {
  cpuMillis: 64_000,
  memoryBytes: 2 ** 36,
  volumeBytes: 0,
  rootfsBytes: 2 ** 38,
};

async function post<T>(url: string, secret: string, body: unknown): Promise<T> {
  const response = await fetch(url, {
    method: "POST",
    headers: {
      authorization: `Bearer ${secret}`,
      "content-type": "application/json",
      [CAPABILITIES_HEADER]: "bench",
    },
    body: JSON.stringify(body),
  });
  const text = await response.text();
  if (!response.ok) throw new Error(`${url} answered ${response.status}: ${text}`);
  return JSON.parse(text) as T;
}
