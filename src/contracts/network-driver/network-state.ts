import { z } from "zod";
import { contains, formatAddress, parseAddress, parseSubnet } from "../../lib/ip/ip-address.ts";
import { idSchema, nameSchema } from "../common/primitives.ts";
import { hostRuleSchema, RULES_PER_HOST_MAX } from "./host-rule.ts";

/** The largest VXLAN network identifier (VNI). */
export const VNI_MAX = 2 ** 24 - 1;
/**
 * As many as the sets of a host can have, so that the planner fills no host beyond it:
 * SETS_PER_HOST_MAX * NETWORKS_PER_SET_MAX.
 */
export const NETWORKS_PER_HOST_MAX = 8_000;
export const ADDRESSES_PER_PORT_MAX = 8;
export const GATEWAYS_PER_NETWORK_MAX = 2;
export const REMOTE_PORTS_MAX = 50_000;
/** In all networks of a host. A service counts once for each network that its sets are in. */
export const SERVICES_PER_HOST_MAX = 16_000;
/** The sets of all services, in all networks of a host. */
export const SERVICE_MEMBERS_MAX = REMOTE_PORTS_MAX + NETWORKS_PER_HOST_MAX;
const NAMED_PORTS_MAX = 16;
/** The ports of a host that lead to services. */
export const GATEWAY_PORTS_MAX = 1_000;
/** The sets to which the ports of a gateway lead, in all its networks. A set counts per port. */
export const GATEWAY_TARGETS_MAX = 20_000;

export const networkIdSchema = idSchema("net");
export const vniSchema = z.number().int().min(1).max(VNI_MAX);

/** One address in the form of RFC 5952, without a prefix length. */
export const addressSchema = z
  .string()
  .max(45)
  .refine((text) => isCanonical(text), "expected an address such as 10.64.0.9 or fd00::9");

/** The MAC address of one interface, in lower case. */
export const macSchema = z
  .string()
  .regex(
    /^[0-9a-f][02468ace](?::[0-9a-f]{2}){5}$/,
    "expected a unicast MAC address in lower case, such as 0a:00:0a:40:00:09",
  );

const portNumber = z.number().int().min(1).max(65_535);
const portProtocol = z.enum(["tcp", "udp"]);

/** A port of the sets of a service to which a gateway leads. */
const trustedPortSchema = z.strictObject({
  serviceId: idSchema("svc"),
  protocol: portProtocol,
  port: portNumber,
});

/** An interface of a set on another host, or the address of a gateway there. */
const remotePortSchema = z.strictObject({
  mac: macSchema,
  addresses: z.array(addressSchema).min(1).max(ADDRESSES_PER_PORT_MAX),
  /** The address of that host in the tunnel network. */
  tunnelAddress: addressSchema,
  /**
   * For the address of a gateway: the ports to which it leads. Its host has applied the rules to
   * what it sends there, and to nothing else.
   */
  trustedPorts: z.array(trustedPortSchema).min(1).max(GATEWAY_PORTS_MAX).optional(),
});

/** A set whose template differs: it has the port at another number, or lacks it. */
const portExceptionSchema = z.strictObject({
  setId: idSchema("set"),
  port: portNumber.nullable(),
});

/** A port of this host that leads to the sets of a service: see docs/internals/gateways.md. */
const gatewayPortSchema = z.strictObject({
  serviceId: idSchema("svc"),
  protocol: portProtocol,
  hostPort: portNumber,
  /** The port of the sets, except those of `exceptions`. */
  port: portNumber,
  /** Sets of other revisions, for example during a rollout. Absent without any. */
  exceptions: z.array(portExceptionSchema).min(1).max(SERVICE_MEMBERS_MAX).optional(),
});

/** This host as a gateway of the network. */
const gatewaySchema = z.strictObject({
  /** The IPv4 address of this host in the network, which no set has. */
  address: addressSchema,
  ports: z.array(gatewayPortSchema).max(GATEWAY_PORTS_MAX),
});

/** A set of a service with its addresses in the network. */
const serviceMemberSchema = z.strictObject({
  setId: idSchema("set"),
  addresses: z.array(addressSchema).min(1).max(2),
  /** True if the set accepts connections: see docs/endpoints.md. */
  isEndpoint: z.boolean(),
});

/** A port of the sets of a service, for SRV records. */
const namedPortSchema = z.strictObject({
  name: nameSchema,
  protocol: portProtocol,
  port: portNumber,
});

/** A service with sets in the network. Its name is unique in the tenant. */
const hostServiceSchema = z.strictObject({
  serviceId: idSchema("svc"),
  name: nameSchema,
  /** The service address in this network: at most one of each family. */
  addresses: z.array(addressSchema).max(2),
  /** All sets that have an address in the network, by id, also those that are not ready. */
  members: z.array(serviceMemberSchema).max(SERVICE_MEMBERS_MAX),
  ports: z.array(namedPortSchema).max(NAMED_PORTS_MAX),
});

export const hostNetworkSchema = z.strictObject({
  networkId: networkIdSchema,
  tenantId: idSchema("tnt"),
  /** Unique in the tenant. */
  name: nameSchema,
  vni: vniSchema,
  /** The firewall rules of the network, in any order. */
  rules: z.array(hostRuleSchema).max(RULES_PER_HOST_MAX),
  /**
   * How many changes of the rules have asked to end the connections that the rules now forbid. When
   * it increases, the host ends them.
   */
  endConnectionsCount: z.number().int().nonnegative(),
  gateways: z.array(addressSchema).max(GATEWAYS_PER_NETWORK_MAX),
  remotePorts: z.array(remotePortSchema).max(REMOTE_PORTS_MAX),
  /** The services of the network, by name. */
  services: z.array(hostServiceSchema).max(SERVICES_PER_HOST_MAX),
  /** Absent unless other machines reach services of the network at ports of this host. */
  gateway: gatewaySchema.optional(),
});

/**
 * A network as a later release may send it. Agents and drivers are upgraded last, so they ignore
 * members that they do not know. Otherwise one new member would stop all changes of networks on the
 * host. Only rules are strict, because a part of a rule could permit too much.
 */
export const receivedNetworkSchema = z.object({
  ...hostNetworkSchema.shape,
  remotePorts: z
    .array(
      z.object({
        ...remotePortSchema.shape,
        trustedPorts: z
          .array(z.object(trustedPortSchema.shape))
          .min(1)
          .max(GATEWAY_PORTS_MAX)
          .optional(),
      }),
    )
    .max(REMOTE_PORTS_MAX),
  services: z
    .array(
      z.object({
        ...hostServiceSchema.shape,
        members: z.array(z.object(serviceMemberSchema.shape)).max(SERVICE_MEMBERS_MAX),
        ports: z.array(z.object(namedPortSchema.shape)).max(NAMED_PORTS_MAX),
      }),
    )
    .max(SERVICES_PER_HOST_MAX),
  gateway: z
    .object({
      ...gatewaySchema.shape,
      ports: z
        .array(
          z.object({
            ...gatewayPortSchema.shape,
            exceptions: z
              .array(z.object(portExceptionSchema.shape))
              .min(1)
              .max(SERVICE_MEMBERS_MAX)
              .optional(),
          }),
        )
        .max(GATEWAY_PORTS_MAX),
    })
    .optional(),
});

/** A network as an earlier or a later release may have stored it. */
const storedNetworkSchema = z
  .object({
    ...receivedNetworkSchema.shape,
    rules: z.array(z.unknown()),
    endConnectionsCount: hostNetworkSchema.shape.endConnectionsCount.default(0),
    hasUnknownRules: z.boolean().default(false),
  })
  .transform((network) => {
    const rules = hostNetworkSchema.shape.rules.safeParse(network.rules);
    return rules.success
      ? { ...network, rules: rules.data }
      : { ...network, rules: [], hasUnknownRules: true };
  });

/**
 * The networks of a host as its agent knows them from the control plane. The network driver stores
 * the last one, so that its flows stay in force while agent and control plane are down.
 */
export const networkStateSchema = z
  .object({
    /**
     * Names the counter of the versions. The agent chooses a new random one whenever it counts
     * from the start: when it starts, or after its state or the database was restored.
     */
    source: z.string().regex(/^[\w-]{1,64}$/, "expected 1 to 64 letters, digits and hyphens"),
    /**
     * Increases with each change. The driver refuses a lower version than its own of the same
     * source, because requests may arrive in the wrong order. A new source replaces any version.
     */
    version: z.number().int().nonnegative(),
    /** The address of this host in the tunnel network. */
    tunnelAddress: addressSchema.nullable(),
    networks: z.array(receivedNetworkSchema).max(NETWORKS_PER_HOST_MAX),
  })
  .superRefine(checkNetworks);

/**
 * The stored state, which a later release may have written before a rollback. Members that this
 * release does not know are ignored, except in rules. A network with an unknown rule loads without
 * rules, and `hasUnknownRules` is true, because a part of its rules could permit too much.
 */
export const storedNetworkStateSchema = z
  .object({
    ...networkStateSchema.shape,
    networks: z.array(storedNetworkSchema).max(NETWORKS_PER_HOST_MAX),
    endRequests: z.array(networkIdSchema).max(NETWORKS_PER_HOST_MAX).default([]),
    departures: z.array(networkIdSchema).max(NETWORKS_PER_HOST_MAX).default([]),
  })
  .superRefine(checkNetworks);

export type NetworkState = z.output<typeof networkStateSchema>;
export type HostNetwork = z.output<typeof hostNetworkSchema>;
export type GatewayPorts = z.output<typeof gatewaySchema>["ports"];
export type TrustedPorts = z.output<typeof trustedPortSchema>[];
export type HostService = HostNetwork["services"][number];
/** A network state, or one that the driver has loaded. */
export type LoadedNetworkState = Omit<NetworkState, "networks"> & {
  networks: (HostNetwork & { hasUnknownRules?: boolean })[];
  /** The networks whose forbidden connections the driver has not ended yet. */
  endRequests?: string[];
  /** The networks with sets that have left, whose connections the driver may not have ended yet. */
  departures?: string[];
};

function checkNetworks(
  { networks }: { networks: readonly HostNetwork[] },
  context: z.RefinementCtx,
): void {
  const complain = (message: string): void =>
    context.addIssue({ code: "custom", path: ["networks"], message });
  if (hasDuplicates(networks.map(({ networkId }) => networkId)))
    complain("expected each `networkId` once");
  if (hasDuplicates(networks.map(({ vni }) => vni))) complain("expected each `vni` once");
  const remotePorts = networks.reduce((sum, network) => sum + network.remotePorts.length, 0);
  if (remotePorts > REMOTE_PORTS_MAX)
    complain(`expected at most ${REMOTE_PORTS_MAX} remote ports in all networks`);
  const rules = networks.reduce((sum, network) => sum + network.rules.length, 0);
  if (rules > RULES_PER_HOST_MAX)
    complain(`expected at most ${RULES_PER_HOST_MAX} rules in all networks`);
  const services = networks.flatMap((network) => network.services);
  const members = services.reduce((sum, service) => sum + service.members.length, 0);
  if (services.length > SERVICES_PER_HOST_MAX)
    complain(`expected at most ${SERVICES_PER_HOST_MAX} services in all networks`);
  if (members > SERVICE_MEMBERS_MAX)
    complain(`expected at most ${SERVICE_MEMBERS_MAX} sets in all services`);
}

/** Whether the address belongs to the subnet. */
export function isAddressIn(address: string, cidr: string): boolean {
  const subnet = parseSubnet(cidr);
  const parsed = parseAddress(address);
  if (!subnet || !parsed) return false;
  const { family, value } = parsed;
  return contains(subnet, { family, first: value, last: value });
}

function isCanonical(text: string): boolean {
  const address = parseAddress(text);
  return address !== undefined && formatAddress(address) === text;
}

function hasDuplicates(values: readonly unknown[]): boolean {
  return new Set(values).size < values.length;
}
