import type { Attachment } from "../../contracts/agent-protocol/attachment.ts";
import type { JoinedNetworks, NetworkPort } from "../../agent/ports/network-port.ts";
import { coalesce } from "../../lib/async/coalesce.ts";
import { KeyedLock } from "../../lib/async/keyed-lock.ts";
import type { Log } from "../../lib/log.ts";
import type { DockerNetworks } from "./docker-networks.ts";
import { probeInNamespace } from "./namespace-probe.ts";

export interface SetNetworksOptions {
  networks: DockerNetworks;
  /** The network of sets without attachments. */
  bridge: NetworkPort;
  /** A BusyBox with `nsenter` and `nc`. */
  busyboxPath: string;
  /** Whether the network driver answers now. Docker waits for one that does not. */
  isDriverReady: (signal: AbortSignal) => Promise<boolean>;
  log: Log;
}

/**
 * NetworkPort on Docker networks of the network driver. Sets without attachments stay on Docker's
 * bridge.
 *
 * A network exists while a set has it, from the preparation to the release, and while a container
 * uses it. So a deletion never meets a preparation that has not created its container yet.
 */
export function createSetNetworks(options: SetNetworksOptions): NetworkPort {
  const { networks, bridge, busyboxPath } = options;
  const reservations = new Reservations();
  const lock = new KeyedLock();
  // A host that is drained releases hundreds of sets together.
  const sweep = coalesce(createSweep(options, reservations, lock));
  return {
    async prepare(set, signal) {
      const [first, ...others] = set.attachments ?? [];
      const wanted = [first, ...others].filter((attachment) => attachment !== undefined);
      const ids = wanted.map(({ networkId }) => networkId);
      const hasDropped = reservations.set(set.setId, ids);
      if (hasDropped) await sweep(signal);
      if (!first) return bridge.prepare(set, signal);
      const join = async (attachment: Attachment) => {
        const ensure = () => networks.ensure(attachment, signal);
        const dockerNetwork = await lock.run(attachment.networkId, ensure, signal);
        return { dockerNetwork, attachment };
      };
      const joined: JoinedNetworks = [await join(first), ...(await Promise.all(others.map(join)))];
      return joined;
    },
    async release(setId, signal) {
      reservations.set(setId, []);
      await sweep(signal);
    },
    probe: (endpoint, timeoutSeconds, probeSignal) =>
      endpoint.listProcesses
        ? probeInNamespace(
            { ...endpoint, listProcesses: endpoint.listProcesses, busyboxPath },
            timeoutSeconds,
            probeSignal,
          )
        : bridge.probe(endpoint, timeoutSeconds, probeSignal),
  };
}

/** The networks that sets of this process have. */
class Reservations {
  readonly #bySet = new Map<string, ReadonlySet<string>>();
  /**
   * Networks that may exist: those of this process, and those of earlier processes once Docker has
   * listed them.
   */
  readonly known = new Set<string>();

  /** Replaces the networks of a set. Returns whether it no longer has one of the earlier ones. */
  set(setId: string, networkIds: readonly string[]): boolean {
    const previous = this.#bySet.get(setId);
    if (networkIds.length === 0) this.#bySet.delete(setId);
    else this.#bySet.set(setId, new Set(networkIds));
    for (const id of networkIds) this.known.add(id);
    return [...(previous ?? [])].some((id) => !networkIds.includes(id));
  }

  has(networkId: string): boolean {
    return [...this.#bySet.values()].some((ids) => ids.has(networkId));
  }
}

/**
 * Returns a function that deletes the networks without a set and without a container. It does
 * nothing while the driver does not answer, and ends at the first error: a later sweep continues.
 * One call finds the networks that containers use. Each other network costs two calls, and a host
 * has at most NETWORKS_PER_HOST_MAX.
 */
function createSweep(
  { networks, isDriverReady, log }: SetNetworksOptions,
  reservations: Reservations,
  lock: KeyedLock,
): (signal?: AbortSignal) => Promise<void> {
  let hasListed = false;
  return async (signal = new AbortController().signal) => {
    try {
      if (!hasListed) {
        for (const id of await networks.list(signal)) reservations.known.add(id);
        hasListed = true;
      }
      const unused = [...reservations.known].filter((id) => !reservations.has(id));
      if (unused.length === 0 || !(await isDriverReady(signal))) return;
      const used = await networks.listUsed(signal);
      for (const id of unused.filter((each) => !used.has(each)))
        await lock.run(
          id,
          async () => {
            if (reservations.has(id)) return;
            const isDeleted = await networks.removeUnused(id, signal);
            if (isDeleted && !reservations.has(id)) reservations.known.delete(id);
          },
          signal,
        );
    } catch (error) {
      signal.throwIfAborted();
      log.warn({ err: error }, "cannot delete the unused networks of this host now");
    }
  };
}
