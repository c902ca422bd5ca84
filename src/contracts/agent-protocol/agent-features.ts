import { DEFAULT_NETWORK } from "../api/networks.ts";
import type { ContainerTemplate, SetTemplate } from "../api/set-template.ts";

/**
 * The features of the agent of this build. An agent reports them, and the planner places a set only
 * on hosts whose agents have all that its template needs.
 *
 * A feature stands for members of the template that agents of an earlier release do not know. Such
 * an agent rejects a set with an unknown member, or even a whole answer.
 */
const agentFeatures = [
  "init",
  "read-only-rootfs",
  "cap-add",
  "cap-drop",
  "ulimits",
  "tmpfs",
  "logging",
  "shared-memory",
  "extra-hosts",
  "attachments",
  "ports",
  "drain",
  "hooks",
  "serving",
  "prefetch",
  "address-reports",
  "credential-rotation",
  "sessions",
  "gateways",
] as const;

/**
 * Features that the contract knows, and that the agent of this build does not have yet. The package
 * that implements one moves it to `agentFeatures`. Until then, a set that needs it has no host.
 */
type LaterFeature = "log-options" | "volume-transfers";
type AgentFeature = (typeof agentFeatures)[number] | LaterFeature;

/**
 * The feature of an agent whose network driver answers. Its host connects sets to networks. This
 * feature, NAMES_FEATURE and PUBLISHING_FEATURE depend on the host, all others on the build alone.
 */
export type NetworksFeature = "networks";
export const NETWORKS_FEATURE: NetworksFeature = "networks";

/** The feature of an agent whose host has an address at which it publishes ports of its sets. */
export type PublishingFeature = "published-ports";
export const PUBLISHING_FEATURE: PublishingFeature = "published-ports";

/** The feature of a networked host whose sets resolve the names of services. None needs it. */
export const NAMES_FEATURE = "names";

/**
 * The feature of an agent that connects sets to the networks of their attachments. It depends on
 * the build alone. An agent without it starts only sets of the default network without attachments.
 * On Docker's bridge, sets of other tenants could reach the others.
 */
export const ATTACHMENTS_FEATURE = "attachments" satisfies AgentFeature;

/**
 * The feature of an agent that reports the addresses of its sets when an answer requests them. It
 * depends on the build alone, and no template needs it.
 */
export const ADDRESS_REPORTS_FEATURE = "address-reports" satisfies AgentFeature;

/**
 * The feature of an agent that replaces its credential when an answer requests that. It depends on
 * the build alone, and no template needs it.
 */
export const CREDENTIAL_ROTATION_FEATURE = "credential-rotation" satisfies AgentFeature;

/**
 * The feature of an agent that connects to the API for sessions with its containers. It depends on
 * the build alone, and no template needs it.
 */
export const SESSIONS_FEATURE = "sessions" satisfies AgentFeature;

/**
 * The feature of an agent that knows the members of a network state for gateways, and whose network
 * driver does. It depends on both builds alone, and no template needs it. A host without it is not
 * a gateway.
 */
export const GATEWAYS_FEATURE = "gateways" satisfies AgentFeature;

/** The features of the agent of this build, except those that depend on the host. */
export const ownFeatures: readonly string[] = agentFeatures;

/** Each option of a container: the feature that it needs, or null if every agent knows it. */
const optionFeatures: Readonly<
  Record<keyof Required<ContainerTemplate["options"]>, AgentFeature | null>
> = {
  cpuPercent: null,
  memoryPercent: null,
  env: null,
  command: null,
  args: null,
  workingDir: null,
  user: null,
  health: null,
  restart: null,
  stopSignal: null,
  stopTimeoutSeconds: null,
  init: "init",
  readOnlyRootfs: "read-only-rootfs",
  capAdd: "cap-add",
  capDrop: "cap-drop",
  ulimits: "ulimits",
  tmpfs: "tmpfs",
  logging: "logging",
  hooks: "hooks",
  serving: "serving",
};

/** Each member of a template, likewise. */
const memberFeatures: Readonly<Record<keyof Required<SetTemplate>, AgentFeature | null>> = {
  cpuMillis: null,
  memoryBytes: null,
  rootfsBytes: null,
  io: null,
  volume: null,
  shmBytes: "shared-memory",
  extraHosts: "extra-hosts",
  sysctls: null,
  networks: null,
  ports: "ports",
  drainSeconds: "drain",
  containers: null,
};

/**
 * The names of a template's members and of its containers' options (no values), its networks and
 * its ports.
 */
export interface TemplateMembers {
  members: readonly string[];
  options: readonly string[];
  networks: SetTemplate["networks"];
  ports: SetTemplate["ports"] | null;
}

/** The features that a template needs, in alphabetical order. */
export function listNeededFeatures(template: SetTemplate): string[] {
  return listFeaturesOf({
    members: listDefined(template),
    options: template.containers.flatMap(({ options }) => listDefined(options)),
    networks: template.networks,
    ports: template.ports,
  });
}

/**
 * Whether the default network is the only one of a template, without a static address. Such a set
 * can also run on hosts that connect no sets to networks. There it has an address of Docker's
 * bridge.
 */
export function usesOnlyDefaultNetwork(networks: SetTemplate["networks"]): boolean {
  const [first, ...others] = networks;
  return others.length === 0 && first?.network === DEFAULT_NETWORK && first.address === undefined;
}

/** The features that a template with these members needs, in alphabetical order. */
export function listFeaturesOf({ members, options, networks, ports }: TemplateMembers): string[] {
  const needed = [
    usesOnlyDefaultNetwork(networks) ? null : NETWORKS_FEATURE,
    ports?.some(({ publish }) => publish) ? PUBLISHING_FEATURE : null,
    ...members.map((name) => memberFeatures[name as keyof SetTemplate]),
    ...options.map((name) => optionFeatures[name as keyof ContainerTemplate["options"]]),
  ];
  return [...new Set(needed.filter((feature) => typeof feature === "string"))].sort();
}

/** The template without the members that need a feature, as every agent can read it. */
export function omitFeatures(template: SetTemplate): SetTemplate {
  const { containers, ...members } = template;
  return {
    ...pickKnown(members, memberFeatures),
    networks: [{ network: DEFAULT_NETWORK }],
    containers: containers.map(({ options, ...container }) => ({
      ...container,
      options: pickKnown(options, optionFeatures),
    })),
  };
}

function pickKnown<T extends object>(
  part: T,
  features: Readonly<Record<string, AgentFeature | null>>,
): T {
  const known = Object.entries(part).filter(([name]) => (features[name] ?? null) === null);
  return Object.fromEntries(known) as T;
}

function listDefined(part: object): string[] {
  return Object.entries(part).flatMap(([name, value]) => (value === undefined ? [] : name));
}
