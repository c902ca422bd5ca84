import {
  type ListChange,
  NETWORK_STEPS_MAX,
  type NetworkStep,
} from "../../contracts/agent-protocol/network-changes.ts";
import type { HostService } from "../../contracts/network-driver/network-state.ts";
import type { NetworkPort } from "../../db/queries/networks/host-networks.ts";
import type { NetworkWithRules } from "./read-fleet-network.ts";

type StepService = NetworkStep["services"]["put"][number];

interface RecordedStep {
  /** The version before the step. */
  from: string;
  /** For hosts without a port in the step. They share it, so do not change it. */
  step: NetworkStep;
  portsPut: readonly NetworkPort[];
  hostIds: ReadonlySet<string>;
  /** The length of the text of `step`. */
  characters: number;
}

/**
 * The last steps of a network, so that its hosts get only what has changed. At most 32, and at most
 * a quarter of the network's text: beyond that, a host gets the network whole.
 */
export class NetworkHistory {
  #steps: RecordedStep[] = [];

  /** Records the change from version `from` of the network to the next one. */
  note(
    from: string,
    before: NetworkWithRules | undefined,
    after: NetworkWithRules | undefined,
    charactersMax: number,
  ): void {
    const recorded = before && after && recordStep(from, before, after);
    this.#steps = recorded ? [...this.#steps, recorded].slice(-NETWORK_STEPS_MAX) : [];
    let left = charactersMax;
    const first = this.#steps.findLastIndex(({ characters }) => (left -= characters) < 0);
    this.#steps = this.#steps.slice(first + 1);
  }

  /** The length of the text of the last step, or undefined without one. */
  get lastCharacters(): number | undefined {
    return this.#steps.at(-1)?.characters;
  }

  /** Whether `listSteps` lists the steps after this version. */
  has(version: string): boolean {
    return this.#steps.some(({ from }) => from === version);
  }

  /** The steps from this version to the current one, for one host. Hosts share most of them. */
  listSteps(version: string, hostId: string): NetworkStep[] {
    // A network that has changed back has an earlier version again.
    const first = this.#steps.findLastIndex(({ from }) => from === version);
    return this.#steps.slice(first).map((recorded) => toHostStep(recorded, hostId));
  }
}

/** A host gets none of its own ports. Those that it has got before are removed. */
function toHostStep({ step, portsPut, hostIds }: RecordedStep, hostId: string): NetworkStep {
  if (!hostIds.has(hostId)) return step;
  const own = portsPut.filter((port) => port.hostId === hostId).map(({ mac }) => mac);
  const isOther = ({ mac }: { mac: string }): boolean => !own.includes(mac);
  const { put, removed } = step.remotePorts;
  return {
    ...step,
    remotePorts: { put: put.filter(isOther), removed: [...removed, ...own] },
  };
}

/** Undefined if no step leads from `before` to `after`. */
function recordStep(
  from: string,
  before: NetworkWithRules,
  after: NetworkWithRules,
): RecordedStep | undefined {
  if (before.tenantId !== after.tenantId || before.vni !== after.vni) return undefined;
  const ports = compareLists(reachable(before), reachable(after), ({ mac }) => mac, isSamePort);
  const rules =
    before.rulesHash === after.rulesHash
      ? { put: [], removed: [] }
      : compareLists(before.rules, after.rules, ({ ruleId }) => ruleId, isSameText);
  const services = compareServices(before.services, after.services);
  if (!ports || !rules || !services) return undefined;
  const step: NetworkStep = {
    name: after.name,
    gateways: after.gateways,
    endConnectionsCount: after.endConnectionsCount,
    rules,
    remotePorts: {
      put: ports.put.map(({ mac, addresses, tunnelAddress }) => ({
        mac,
        addresses,
        tunnelAddress: tunnelAddress ?? "",
      })),
      removed: ports.removed,
    },
    services,
  };
  return {
    from,
    step,
    portsPut: ports.put,
    hostIds: new Set(ports.put.map(({ hostId }) => hostId)),
    characters: JSON.stringify(step).length,
  };
}

/** The ports that other hosts can reach. */
function reachable({ ports }: NetworkWithRules): NetworkPort[] {
  return ports.filter(({ tunnelAddress }) => tunnelAddress !== null);
}

function compareServices(
  before: readonly HostService[],
  after: readonly HostService[],
): ListChange<StepService> | undefined {
  const earlier = new Map(before.map((service) => [service.serviceId, service]));
  const put: StepService[] = [];
  for (const { members, ...basics } of after) {
    const { members: membersBefore, ...basicsBefore } = earlier.get(basics.serviceId) ?? {};
    earlier.delete(basics.serviceId);
    const change = compareLists(membersBefore ?? [], members, ({ setId }) => setId, isSameMember);
    if (!change) return undefined;
    const hasMembers = change.put.length > 0 || change.removed.length > 0;
    if (hasMembers || !isSameText(basicsBefore, basics)) put.push({ ...basics, members: change });
  }
  return { put, removed: [...earlier.keys()] };
}

/** Undefined if two items of `after` have the same key. */
function compareLists<T>(
  before: readonly T[],
  after: readonly T[],
  keyOf: (item: T) => string,
  isSame: (a: T, b: T) => boolean,
): ListChange<T> | undefined {
  const earlier = new Map(before.map((item) => [keyOf(item), item]));
  const keys = new Set<string>();
  const put: T[] = [];
  for (const item of after) {
    const key = keyOf(item);
    const same = earlier.get(key);
    if (same === undefined || !isSame(same, item)) put.push(item);
    keys.add(key);
  }
  if (keys.size < after.length) return undefined;
  return { put, removed: [...earlier.keys()].filter((key) => !keys.has(key)) };
}

function isSamePort(a: NetworkPort, b: NetworkPort): boolean {
  const isSameHost = a.hostId === b.hostId && a.tunnelAddress === b.tunnelAddress;
  return isSameHost && isSameText(a.addresses, b.addresses);
}

function isSameMember(
  a: HostService["members"][number],
  b: HostService["members"][number],
): boolean {
  return a.isEndpoint === b.isEndpoint && isSameText(a.addresses, b.addresses);
}

function isSameText(a: unknown, b: unknown): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}
