import { z } from "zod";
import {
  addressSchema,
  GATEWAYS_PER_NETWORK_MAX,
  macSchema,
  networkIdSchema,
  NETWORKS_PER_HOST_MAX,
  vniSchema,
} from "../../contracts/network-driver/network-state.ts";
import { formatAddress, parseAddress } from "../../lib/ip/ip-address.ts";
import { publishedPortsSchema } from "../../contracts/network-driver/published-ports.ts";

/**
 * Bounds of the records of one host. A set has one endpoint in each of its networks. The bounds
 * are twice what the planner's sets need: it counts neither unknown sets nor endpoints that Docker
 * is about to delete.
 */
export const DOCKER_NETWORKS_MAX = 2 * NETWORKS_PER_HOST_MAX;
export const ENDPOINTS_MAX = 2 * NETWORKS_PER_HOST_MAX;

/** An id that Docker chose for a network or an endpoint. */
export const dockerIdSchema = z
  .string()
  .regex(/^[0-9a-z]{20,64}$/, "expected an id of Docker: 20 to 64 letters and digits");

/** The smallest MTU of IPv6 (RFC 8200). */
export const mtuSchema = z.number().int().min(1_280).max(65_535);

/** An address with its prefix length, such as 10.64.0.9/16 or fd00::9/64. */
export const interfaceAddressSchema = z
  .string()
  .max(49)
  .refine(
    (text) => isInterfaceAddress(text),
    "expected an address and a prefix length, such as 10.64.0.9/16",
  );

export const labelSchema = z
  .string()
  .max(64)
  .regex(/^[\x21-\x7e]+$/, "expected printable ASCII without spaces");

/** A Docker network that uses this driver. */
export const dockerNetworkSchema = z.object({
  networkId: networkIdSchema,
  vni: vniSchema,
  mtu: mtuSchema,
  gateways: z.array(addressSchema).max(GATEWAYS_PER_NETWORK_MAX),
});

export const defaultRoutesSchema = z.array(z.union([z.literal(4), z.literal(6)])).max(2);

/** The interface of one container. It repeats its network's facts, so each record is complete. */
export const endpointSchema = z.object({
  dockerNetworkId: dockerIdSchema,
  ...dockerNetworkSchema.shape,
  mac: macSchema,
  /** At most one of each family. */
  addresses: z.array(interfaceAddressSchema).min(1).max(2),
  /** The families of which the container's default route leads here. Undefined for all. */
  defaultRoutes: defaultRoutesSchema.optional(),
  set: labelSchema.optional(),
  tenant: labelSchema.optional(),
  host: labelSchema.optional(),
  /** The ports of the host that lead to the container. */
  publishedPorts: publishedPortsSchema.optional(),
});

const zonesSchema = z.record(
  z.string().regex(/^[1-9]\d{0,7}$/, "expected a VNI"),
  z.number().int().min(1).max(65_534),
);

/**
 * Members that this release does not know are ignored, because a later one may have written them
 * before a rollback. So later releases may only add members that earlier ones can ignore safely.
 */
export const driverRecordsSchema = z.object({
  version: z.number().int().min(1),
  /** By the id of the Docker network. */
  networks: z.record(dockerIdSchema, dockerNetworkSchema),
  /** By the id of the Docker endpoint. */
  endpoints: z.record(dockerIdSchema, endpointSchema),
  /** The conntrack zones by VNI or gatewayZoneKey. Earlier releases stored none. */
  zones: zonesSchema.default({}),
});

export type DockerNetwork = z.output<typeof dockerNetworkSchema>;
export type Endpoint = z.output<typeof endpointSchema>;
export type DriverRecordsContent = z.output<typeof driverRecordsSchema>;

const anyEntries = driverRecordsSchema.extend({
  networks: z.record(z.string(), z.unknown()),
  endpoints: z.record(z.string(), z.unknown()),
  zones: z.unknown(),
});

/**
 * Reads the valid entries of records that `driverRecordsSchema` refuses, so that one invalid entry
 * does not lose the others. Returns undefined if the records have a different form.
 */
export function salvageRecords(json: unknown): DriverRecordsContent | undefined {
  const { data } = anyEntries.safeParse(json);
  if (!data) return undefined;
  return {
    version: data.version,
    networks: selectValid(data.networks, dockerNetworkSchema),
    endpoints: selectValid(data.endpoints, endpointSchema),
    // Without them, the zones are derived from the VNIs.
    zones: zonesSchema.safeParse(data.zones).data ?? {},
  };
}

function selectValid<T>(
  entries: Readonly<Record<string, unknown>>,
  schema: z.ZodType<T>,
): Record<string, T> {
  return Object.fromEntries(
    Object.entries(entries).flatMap(([id, entry]): [string, T][] => {
      const parsed = schema.safeParse(entry);
      return dockerIdSchema.safeParse(id).success && parsed.success ? [[id, parsed.data]] : [];
    }),
  );
}

function isInterfaceAddress(text: string): boolean {
  const [, address = "", prefix = ""] = /^([^/]+)\/(\d{1,3})$/.exec(text) ?? [];
  const parsed = parseAddress(address);
  if (!parsed || formatAddress(parsed) !== address) return false;
  const length = Number(prefix);
  return String(length) === prefix && length >= 1 && length <= (parsed.family === 4 ? 32 : 128);
}
