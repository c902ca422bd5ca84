import { z } from "zod";
import { generationSchema, idSchema, nameSchema, timestamp } from "../common/primitives.ts";
import { type CheckedSubnet, checkSubnets } from "./check-subnets.ts";

/** Each tenant has this network. Berth creates it when the tenant first needs it. */
export const DEFAULT_NETWORK = "default";

export const NETWORKS_PER_TENANT_MAX = 64;
const SUBNETS_PER_NETWORK_MAX = 2;
const POOLS_PER_SUBNET_MAX = 16;
const RESERVATIONS_PER_SUBNET_MAX = 256;
/** Two IPv6 addresses with a hyphen are shorter. */
const RANGE_CHARACTERS_MAX = 90;

/**
 * The first VXLAN network identifier (VNI) of a network. Smaller ones are free for VLANs and for
 * networks that an operator sets up beside Berth.
 */
export const VNI_MIN = 4_097;

const rangeText = z.string().max(RANGE_CHARACTERS_MAX);

const subnetInput = z
  .strictObject({
    cidr: z.string().max(64).describe("Such as 10.64.0.0/16 or fd00:64::/64."),
    gateway: z
      .string()
      .max(64)
      .optional()
      .describe(
        "The address of the gateway. By default the second address of the subnet, such as 10.64.0.1.",
      ),
    pools: z
      .array(rangeText)
      .min(1)
      .max(POOLS_PER_SUBNET_MAX)
      .optional()
      .describe(
        "Addresses, ranges or subnets from which Berth assigns addresses. By default the whole subnet; of a larger IPv6 subnet its first 2^32 addresses.",
      ),
    reservations: z
      .array(rangeText)
      .max(RESERVATIONS_PER_SUBNET_MAX)
      .optional()
      .describe("Addresses, ranges or subnets that Berth never assigns."),
  })
  .meta({ id: "SubnetInput" });

const subnetsInput = z
  .array(subnetInput)
  .min(1)
  .max(SUBNETS_PER_NETWORK_MAX)
  .transform((subnets, context): CheckedSubnet[] =>
    checkSubnets(subnets, (path, message) =>
      context.addIssue({ code: "custom", path, message, input: subnets }),
    ),
  )
  .describe("One IPv4 subnet, one IPv6 subnet, or both.");

export const createNetworkBody = z
  .strictObject({ name: nameSchema, subnets: subnetsInput })
  .meta({ id: "CreateNetwork" });
export type CreateNetwork = z.infer<typeof createNetworkBody>;

/** The list replaces the previous one. A subnet with an equal `cidr` keeps its addresses. */
export const patchNetworkBody = z
  .strictObject({ subnets: subnetsInput })
  .meta({ id: "PatchNetwork" });
export type PatchNetwork = z.infer<typeof patchNetworkBody>;

const subnetSchema = z
  .strictObject({
    id: idSchema("sub"),
    family: z.union([z.literal(4), z.literal(6)]),
    cidr: z.string(),
    gateway: z.string(),
    pools: z.array(z.string()).describe("Empty if Berth assigns addresses of the whole subnet."),
    reservations: z.array(z.string()),
    addresses: z.strictObject({
      /** The number of addresses that Berth may assign. */
      usable: z.number().int(),
      /** Sets and services have these. */
      assigned: z.number().int(),
      /** Sets and services had these until recently. */
      quarantined: z.number().int(),
      free: z.number().int(),
    }),
  })
  .meta({ id: "Subnet" });
export type Subnet = z.infer<typeof subnetSchema>;

/** A virtual network of a tenant. */
export const networkSchema = z
  .strictObject({
    id: idSchema("net"),
    tenant: nameSchema,
    name: nameSchema,
    generation: generationSchema,
    vni: z
      .number()
      .int()
      .describe(
        "The VXLAN network identifier, unique in the fleet, which frames between hosts carry.",
      ),
    subnets: z.array(subnetSchema),
    createdAt: timestamp,
  })
  .meta({ id: "Network" });
export type Network = z.infer<typeof networkSchema>;

/** The reasons why a set can get no address of a network, although the network has free ones. */
export type AddressFault = "addresses-unknown" | "address-taken";

export const addressStates = ["assigned", "quarantined"] as const;
export type AddressState = (typeof addressStates)[number];

/** An address of a network that a set or a service has, or had until recently. */
export const networkAddressSchema = z
  .strictObject({
    address: z.string(),
    mac: z.string(),
    setId: idSchema("set")
      .nullable()
      .describe("Null if it is a service address, or that of a gateway."),
    service: nameSchema.nullable().describe("The service, or that of the set."),
    gateway: nameSchema
      .nullable()
      .describe("The host that has the address as a gateway. Null for other addresses."),
    networkIndex: z
      .number()
      .int()
      .nullable()
      .describe(
        "The position of the network in the template of the set, from 0. Null for other addresses.",
      ),
    state: z
      .enum(addressStates)
      .describe(
        "`assigned`: a set or a service has the address. `quarantined`: it left the network recently, and no other one can get the address.",
      ),
    /** When the set left its host, or the service the network. */
    quarantinedAt: timestamp.nullable(),
  })
  .meta({ id: "NetworkAddress" });
export type NetworkAddress = z.infer<typeof networkAddressSchema>;
