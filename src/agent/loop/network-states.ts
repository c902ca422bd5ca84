import {
  applyNetworkChanges,
  countNetwork,
  type VersionedNetwork,
} from "../../contracts/agent-protocol/network-changes.ts";
import type { HostNetwork } from "../../contracts/network-driver/network-state.ts";
import { isAborted } from "../../lib/async/abort.ts";
import { newId } from "../../lib/ids.ts";
import type { Log } from "../../lib/log.ts";
import type { AgentLimits } from "../base/agent-limits.ts";
import { type Clock, sleep } from "../base/clock.ts";
import type { NetworkDriverHealth } from "../housekeeping/network-driver-health.ts";
import type { HostNetworksPort, NetworksAnswer } from "../ports/host-networks-port.ts";
import type { NetworkDriverPort } from "../ports/network-driver-port.ts";
import { waitBeforeRetry } from "../reporting/retry-delay.ts";

/** The pause after an unchanged answer, so that a faulty API gets no calls in a tight loop. */
const UNCHANGED_WAIT_MS = 250;

export interface NetworkStatesOptions {
  hostNetworks: HostNetworksPort;
  driver: NetworkDriverPort;
  health: Pick<NetworkDriverHealth, "isAnswering" | "tunnelAddress" | "knowsGateways">;
  clock: Clock;
  log: Log;
  /** Called with the networks that replace the previous ones. */
  onNetworks: (networks: readonly HostNetwork[]) => void;
  /** In [0, 1). */
  random: () => number;
  limits: Pick<AgentLimits, "waitMs" | "driverRetryMs">;
  /** The shortest pause after a failed call, given a random number. */
  pauseMs: (random: number) => number;
}

/** The last state that this process has sent to the driver. */
interface SentState {
  /** The version of the networks in the control plane. */
  hash: string;
  /** The version of the state in the driver. */
  version: number;
  tunnelAddress: string | null;
  networks: HostNetwork[];
  /** The same networks, the largest first. Empty if the API has sent no versions. */
  versioned: VersionedNetwork[];
}

/**
 * Sends the networks of this host to the network driver whenever they change, until aborted. The
 * driver stores them, so they stay in force while agent and control plane are down. A driver that
 * has lost them gets them even if it is not ready, because it may need them to become ready.
 *
 * A loop of its own: desired sets must not wait for the switch, nor networks for desired sets.
 */
export async function pullNetworkStates(
  options: NetworkStatesOptions,
  signal: AbortSignal,
): Promise<void> {
  const { hostNetworks, driver, health, clock, limits } = options;
  // This process counts its states from 1, so a new source must replace those of earlier ones.
  const source = newId("src");
  let lastVersion = 0;
  let sent: SentState | undefined;
  /** True if the next answer must have all networks whole. */
  let isReset = false;
  let failuresInRow = 0;
  while (!isAborted(signal)) {
    // Without an address, the driver would close its tunnel.
    if (!health.isAnswering || health.tunnelAddress === undefined) {
      await sleep(clock, limits.driverRetryMs, signal);
      continue;
    }
    try {
      const query = isReset
        ? { version: undefined, networkVersions: undefined }
        : { version: sent?.hash, networkVersions: listVersions(sent) };
      const { knowsGateways } = health;
      const more = { waitMs: limits.waitMs, knowsGateways };
      const answer = await hostNetworks.read({ ...query, ...more }, signal);
      const read = readAnswer(answer, sent?.versioned ?? []);
      isReset = read === undefined;
      if (!read) throw new Error("the changes of the networks do not apply to those of the host");
      if (read.networks) options.onNetworks(read.networks);
      const { tunnelAddress = null } = health;
      const { networks, versioned } = read.networks ? read : (sent ?? read);
      const isNew = read.networks !== null || tunnelAddress !== sent?.tunnelAddress;
      if (networks && (isNew || (await hasLost(driver, sent, signal)))) {
        const version = ++lastVersion;
        await driver.putNetworkState({ source, version, tunnelAddress, networks }, signal);
        sent = { hash: answer.version, version, tunnelAddress, networks, versioned };
      } else await sleep(clock, UNCHANGED_WAIT_MS, signal);
      failuresInRow = 0;
    } catch (error) {
      if (isAborted(signal)) return;
      failuresInRow++;
      await waitBeforeRetry({ ...options, loop: "networks" }, error, failuresInRow, signal);
    }
  }
}

function listVersions(sent: SentState | undefined): string[] {
  return sent?.versioned.map(({ version }) => version) ?? [];
}

/** The networks of an answer, or null if they are those of `before`. Undefined if unusable. */
function readAnswer(
  { networks, changes }: NetworksAnswer,
  before: readonly VersionedNetwork[],
): (Pick<SentState, "versioned"> & { networks: HostNetwork[] | null }) | undefined {
  if (networks === null || changes === undefined) return { networks, versioned: [] };
  const applied = applyNetworkChanges(before, { networks, changes });
  return (
    applied && {
      networks: applied.map(({ network }) => network),
      versioned: applied.toSorted((a, b) => sizeOf(b.network) - sizeOf(a.network)),
    }
  );
}

/** The number of its items, as a measure of its text. */
function sizeOf(network: HostNetwork): number {
  const { rules, remotePorts, members } = countNetwork(network);
  return rules + remotePorts + members;
}

/** Whether the driver has a different state, for example after its disk was full or replaced. */
async function hasLost(
  driver: NetworkDriverPort,
  sent: SentState | undefined,
  signal: AbortSignal,
): Promise<boolean> {
  return (await driver.status(signal)).networkStateVersion !== sent?.version;
}
