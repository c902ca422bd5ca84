import { z } from "zod";
import { idSchema } from "../common/primitives.ts";
import {
  addressSchema,
  macSchema,
  networkIdSchema,
  SERVICES_PER_HOST_MAX,
} from "../network-driver/network-state.ts";
import { PUBLISHED_PORTS_PER_SET_MAX, portNumber, portProtocols } from "../api/template-ports.ts";
import { NETWORKS_PER_SET_MAX } from "../api/template-networks.ts";
import { lenientArray } from "./lenient-array.ts";
import { SETS_PER_HOST_MAX } from "./protocol.ts";

/** The addresses of one set on a host, by network in template order, and its host ports. */
const setAddressesSchema = z.object({
  setId: idSchema("set"),
  networks: z
    .array(
      z.object({
        networkId: networkIdSchema,
        mac: macSchema,
        addresses: z.array(addressSchema).min(1).max(2),
      }),
    )
    .max(NETWORKS_PER_SET_MAX),
  /** Undefined without any, and from older agents. */
  hostPorts: z
    .array(z.object({ protocol: z.enum(portProtocols), port: portNumber }))
    .min(1)
    .max(PUBLISHED_PORTS_PER_SET_MAX)
    .optional(),
});
export type SetAddresses = z.infer<typeof setAddressesSchema>;

/** The address of a service in one network of the host. */
const serviceAddressesSchema = z.object({
  serviceId: idSchema("svc"),
  networkId: networkIdSchema,
  addresses: z.array(addressSchema).min(1).max(2),
});
export type ServiceAddresses = z.infer<typeof serviceAddressesSchema>;

/**
 * The addresses and host ports of all sets that an agent manages, whether the last full answer
 * listed them or not. Twice as many sets as the planner places on a host: unknown sets come on top.
 *
 * It also has the service addresses of the host's networks, now and in the last ten minutes. An
 * older API ignores them.
 */
export const addressReportSchema = lenientArray(
  z.union([setAddressesSchema, serviceAddressesSchema]),
  2 * SETS_PER_HOST_MAX + SERVICES_PER_HOST_MAX,
);
export type AddressReport = z.infer<typeof addressReportSchema>;
