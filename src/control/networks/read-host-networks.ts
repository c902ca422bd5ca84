import { setTimeout as pause } from "node:timers/promises";
import type {
  HostNetworks,
  HostNetworksQuery,
} from "../../contracts/agent-protocol/host-networks.ts";
import {
  type HostNetwork,
  REMOTE_PORTS_MAX,
} from "../../contracts/network-driver/network-state.ts";
import { listHostNetworks } from "../../db/queries/networks/host-networks.ts";
import { hashSecret } from "../../lib/token-hash.ts";
import type { ControlContext, SignalChannel } from "../runtime/context.ts";

const VERSION_CHARACTERS = 32;
/** Placements within this time share one read. It bounds the reads of one call, too. */
const COALESCE_MS = 200;

/**
 * Reads the networks of a host, and waits up to `waitMs` until they differ from its version. The
 * version is a hash: a number would be a row that each placement in a network locks.
 */
export async function readHostNetworks(
  ctx: ControlContext,
  hostId: string,
  { version, waitMs }: HostNetworksQuery,
  signal: AbortSignal,
): Promise<HostNetworks> {
  const endsAtMs = performance.now() + waitMs;
  let current = await read(ctx, hostId);
  while (current.version === version) {
    const leftMs = endsAtMs - performance.now();
    if (leftMs <= 0 || signal.aborted) return { version, networks: null };
    const waiting = new AbortController();
    const stop = (): void => waiting.abort("the wait is over");
    signal.addEventListener("abort", stop);
    try {
      const arrived = waitForAny(ctx, channelsOf(hostId, current.networks), leftMs, waiting.signal);
      // A placement between the read and the wait caused no signal.
      current = await read(ctx, hostId);
      if (current.version !== version) break;
      // Without a signal nothing has changed. A read for each of 5,000 hosts would cost more.
      if (!(await arrived)) return { version, networks: null };
      await pause(COALESCE_MS);
    } finally {
      signal.removeEventListener("abort", stop);
      stop();
    }
    current = await read(ctx, hostId);
  }
  return current;
}

type CurrentNetworks = HostNetworks & { networks: HostNetwork[] };

async function read({ db, log }: ControlContext, hostId: string): Promise<CurrentNetworks> {
  let left = REMOTE_PORTS_MAX;
  const networks: HostNetwork[] = [];
  for (const network of await listHostNetworks(db, hostId)) {
    const remotePorts = network.remotePorts.slice(0, left);
    if (remotePorts.length < network.remotePorts.length)
      log.error({ hostId, networkId: network.networkId }, "a host has too many remote ports");
    left -= remotePorts.length;
    networks.push({ ...network, rules: [], endConnectionsCount: 0, remotePorts, services: [] });
  }
  const version = hashSecret(JSON.stringify(networks)).slice(0, VERSION_CHARACTERS);
  return { version, networks };
}

function channelsOf(hostId: string, networks: readonly HostNetwork[]): SignalChannel[] {
  const ofNetworks = networks.map(({ networkId }): SignalChannel => `network:${networkId}`);
  return [`host:${hostId}`, ...ofNetworks];
}

/** Resolves with true at the first signal of any channel, or with false. */
async function waitForAny(
  { signals }: ControlContext,
  channels: readonly SignalChannel[],
  timeoutMs: number,
  signal: AbortSignal,
): Promise<boolean> {
  return Promise.race(channels.map((channel) => signals.waitFor(channel, timeoutMs, signal)));
}
