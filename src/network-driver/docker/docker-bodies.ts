import { z } from "zod";
import { addressSchema, macSchema } from "../../contracts/network-driver/network-state.ts";
import { networkIdSchema, vniSchema } from "../../contracts/network-driver/network-state.ts";
import { formatAddress, parseAddress, parseSubnet } from "../../lib/ip/ip-address.ts";
import {
  publishedPortsSchema,
  splitPublishedPorts,
} from "../../contracts/network-driver/published-ports.ts";
import {
  defaultRoutesSchema,
  dockerIdSchema,
  interfaceAddressSchema,
  labelSchema,
  mtuSchema,
} from "../model/driver-records.ts";

/**
 * The bodies of Docker's calls, as moby/libnetwork:drivers/remote/api and ipams/remote/api declare
 * them. Docker omits empty members or sends null, and later releases add members.
 */

/** Key of the options that users gave, among those that Docker adds. */
const USER_OPTIONS = "com.docker.network.generic";
const optionText = z.string().max(1_024);

const subnetSchema = z.string().max(49).refine(isSubnet, "expected a subnet such as 10.64.0.0/16");
const emptyToUndefined = <T extends z.ZodType>(schema: T) =>
  z
    .union([z.literal(""), z.null(), schema])
    .optional()
    .transform((value) => (value === "" || value === null ? undefined : value));

/** A number as text, such as "4097": options of Docker are always texts. */
const numberText = z
  .string()
  .regex(/^\d{1,8}$/, "expected a whole number")
  .transform(Number);

/** The options of `docker network create --opt` that say which network of Berth this is. */
const networkOptionsSchema = z.object({
  "berth.network": networkIdSchema.optional(),
  "berth.vni": numberText.pipe(vniSchema).optional(),
  "berth.mtu": numberText.pipe(mtuSchema).optional(),
});

const ipDataSchema = z.object({
  Pool: subnetSchema,
  /** With the prefix length of the pool. */
  Gateway: emptyToUndefined(interfaceAddressSchema),
});
const ipDataList = z.array(ipDataSchema).max(1).nullish();

export const createNetworkSchema = z.object({
  NetworkID: dockerIdSchema,
  Options: z
    .object({ [USER_OPTIONS]: networkOptionsSchema.nullish() })
    .transform(({ [USER_OPTIONS]: options }) => options ?? {})
    .nullish(),
  IPv4Data: ipDataList,
  IPv6Data: ipDataList,
});

export const networkSchema = z.object({ NetworkID: dockerIdSchema });
export const endpointCallSchema = networkSchema.extend({ EndpointID: dockerIdSchema });

const label = emptyToUndefined(labelSchema);
const endpointOptionsSchema = z.object({
  "berth.set": label,
  "berth.tenant": label,
  "berth.host": label,
  // From these, the driver rebuilds a lost record of the network.
  "berth.network": networkIdSchema.optional(),
  "berth.vni": numberText.pipe(vniSchema).optional(),
  "berth.mtu": numberText.pipe(mtuSchema).optional(),
  "berth.gateways": optionText
    .transform((text) => text.split(",").filter((address) => address !== ""))
    .pipe(z.array(addressSchema).max(2))
    .optional(),
  "berth.ports": optionText.transform(splitPublishedPorts).pipe(publishedPortsSchema).optional(),
  /** The families of which this endpoint has the default route of its container: "4,6". */
  "berth.default-routes": optionText
    .transform((text) => text.split(",").flatMap((family) => (family === "" ? [] : Number(family))))
    .pipe(defaultRoutesSchema)
    .optional(),
});

export const createEndpointSchema = endpointCallSchema.extend({
  Interface: z
    .object({
      Address: emptyToUndefined(interfaceAddressSchema),
      AddressIPv6: emptyToUndefined(interfaceAddressSchema),
      MacAddress: emptyToUndefined(z.string().max(17).toLowerCase().pipe(macSchema)),
    })
    .nullish(),
  Options: endpointOptionsSchema.nullish(),
});

export const requestPoolSchema = z.object({
  AddressSpace: optionText.optional(),
  Pool: emptyToUndefined(subnetSchema),
  SubPool: emptyToUndefined(optionText),
  Options: z.record(optionText, optionText).nullish(),
  V6: z.boolean().optional(),
});
export const requestAddressSchema = z.object({
  PoolID: optionText,
  Address: emptyToUndefined(addressSchema),
  Options: z.record(optionText, optionText).nullish(),
});

function isSubnet(text: string): boolean {
  const subnet = parseSubnet(text);
  if (!subnet || subnet.hasHostBits) return false;
  const address = text.slice(0, text.indexOf("/"));
  const parsed = parseAddress(address);
  return parsed !== undefined && formatAddress(parsed) === address;
}
