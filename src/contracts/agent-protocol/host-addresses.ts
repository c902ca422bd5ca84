import { z } from "zod";
import { idSchema } from "../common/primitives.ts";
import { addressSchema, macSchema, networkIdSchema } from "../network-driver/network-state.ts";
import { NETWORKS_PER_SET_MAX } from "../api/template-networks.ts";
import { lenientArray } from "./lenient-array.ts";
import { SETS_PER_HOST_MAX } from "./protocol.ts";

/** The addresses of one set on a host, by its network, in the order of the template. */
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
    .min(1)
    .max(NETWORKS_PER_SET_MAX),
});
export type SetAddresses = z.infer<typeof setAddressesSchema>;

/**
 * The addresses of all sets that an agent manages, whether the last full answer listed them or not.
 * Twice as many sets as the planner places on a host: unknown sets come on top.
 */
export const hostAddressesSchema = lenientArray(setAddressesSchema, 2 * SETS_PER_HOST_MAX);
