import { z } from "zod";
import { RULES_PER_HOST_MAX } from "../network-driver/host-rule.ts";
import {
  type HostNetwork,
  type HostService,
  hostNetworkSchema,
  networkIdSchema,
  REMOTE_PORTS_MAX,
  SERVICE_MEMBERS_MAX,
  SERVICES_PER_HOST_MAX,
} from "../network-driver/network-state.ts";
import { idSchema } from "../common/primitives.ts";

/** A step is one read of the network in an API process, and may contain several changes. */
export const NETWORK_STEPS_MAX = 32;

/** A hash of one network, or of all networks of a host. */
export const networkVersionSchema = z.string().regex(/^[0-9a-f]{32}$/);

const { name, gateways, endConnectionsCount, rules, remotePorts, services } =
  hostNetworkSchema.shape;
const { members, ...serviceBasics } = services.element.shape;
const macSchema = remotePorts.element.shape.mac;
const setIdSchema = members.element.shape.setId;

const listChange = <T extends z.ZodType>(put: T, removed: z.ZodType<string>, removedMax: number) =>
  z.strictObject({ put, removed: z.array(removed).max(removedMax) });

/** `put` adds an item, or replaces the one with its key. `removed` has keys. */
export interface ListChange<T> {
  put: T[];
  removed: string[];
}

/** The changes from one version of a network to the next, for one host. */
const networkStepSchema = z.strictObject({
  name,
  gateways,
  endConnectionsCount,
  /** The keys are `ruleId`. */
  rules: listChange(rules, idSchema("rule"), RULES_PER_HOST_MAX),
  /** The keys are `mac`. An unknown key may be that of a port of the host itself. */
  remotePorts: listChange(remotePorts, macSchema, REMOTE_PORTS_MAX),
  /** The keys are `serviceId`, and those of the members `setId`. */
  services: listChange(
    z
      .array(
        z.strictObject({
          ...serviceBasics,
          members: listChange(members, setIdSchema, SERVICE_MEMBERS_MAX),
        }),
      )
      .max(SERVICES_PER_HOST_MAX),
    idSchema("svc"),
    SERVICES_PER_HOST_MAX,
  ),
});

/** The numbers of items that the host has after the steps. They reveal a lost change. */
const networkCountsSchema = z.strictObject({
  rules: z.number().int().nonnegative(),
  remotePorts: z.number().int().nonnegative(),
  services: z.number().int().nonnegative(),
  members: z.number().int().nonnegative(),
});

/** How a host gets the current version of one network. */
export const networkChangeSchema = z.strictObject({
  networkId: networkIdSchema,
  version: networkVersionSchema,
  from: networkVersionSchema
    .nullable()
    .describe("The version that the steps begin with. Null if `networks` has the network."),
  steps: z.array(networkStepSchema).max(NETWORK_STEPS_MAX),
  counts: networkCountsSchema,
});

export type NetworkStep = z.output<typeof networkStepSchema>;
export type NetworkCounts = z.output<typeof networkCountsSchema>;
export type NetworkChange = z.output<typeof networkChangeSchema>;

/** A network as a host has it, with its version. */
export interface VersionedNetwork {
  version: string;
  network: HostNetwork;
}

/**
 * The networks that the host has after an answer, in the order of the changes. Returns undefined if
 * the answer does not apply to `before`: then the host must read its networks whole.
 */
export function applyNetworkChanges(
  before: readonly VersionedNetwork[],
  { networks, changes }: { networks: readonly HostNetwork[]; changes: readonly unknown[] },
): VersionedNetwork[] | undefined {
  const parsed = z.array(networkChangeSchema).safeParse(changes);
  if (!parsed.success) return undefined;
  const whole = new Map(networks.map((network) => [network.networkId, network]));
  const versions = new Map(before.map((one) => [one.version, one.network]));
  const after: VersionedNetwork[] = [];
  for (const { networkId, version, from, steps, counts } of parsed.data) {
    const base = from === null ? whole.get(networkId) : versions.get(from);
    if (base?.networkId !== networkId) return undefined;
    const network = steps.reduce(applyStep, base);
    if (!hasCounts(network, counts)) return undefined;
    after.push({ version, network });
  }
  return after;
}

/** The numbers of items of a network. */
export function countNetwork(network: {
  rules: readonly unknown[];
  remotePorts: readonly unknown[];
  services: readonly { members: readonly unknown[] }[];
}): NetworkCounts {
  return {
    rules: network.rules.length,
    remotePorts: network.remotePorts.length,
    services: network.services.length,
    members: network.services.reduce((sum, service) => sum + service.members.length, 0),
  };
}

function hasCounts(network: HostNetwork, counts: NetworkCounts): boolean {
  const own = countNetwork(network);
  return (
    own.rules === counts.rules &&
    own.remotePorts === counts.remotePorts &&
    own.services === counts.services &&
    own.members === counts.members
  );
}

function applyStep(network: HostNetwork, step: NetworkStep): HostNetwork {
  const serviceOf = new Map(network.services.map((service) => [service.serviceId, service]));
  const put = step.services.put.map((service): HostService => {
    const earlier = serviceOf.get(service.serviceId)?.members ?? [];
    const list = applyList(earlier, service.members, ({ setId }) => setId);
    return { ...service, members: list.toSorted((a, b) => compareTexts(a.setId, b.setId)) };
  });
  const changed = { put, removed: step.services.removed };
  const list = applyList(network.services, changed, ({ serviceId }) => serviceId);
  return {
    ...network,
    name: step.name,
    gateways: step.gateways,
    endConnectionsCount: step.endConnectionsCount,
    rules: applyList(network.rules, step.rules, ({ ruleId }) => ruleId),
    remotePorts: applyList(network.remotePorts, step.remotePorts, ({ mac }) => mac),
    services: list.toSorted((a, b) => compareTexts(a.name, b.name)),
  };
}

function applyList<T>(items: T[], { put, removed }: ListChange<T>, keyOf: (item: T) => string) {
  if (put.length === 0 && removed.length === 0) return items;
  const byKey = new Map(items.map((item) => [keyOf(item), item]));
  for (const key of removed) byKey.delete(key);
  for (const item of put) byKey.set(keyOf(item), item);
  return [...byKey.values()];
}

function compareTexts(a: string, b: string): number {
  return a < b ? -1 : Number(a > b);
}
