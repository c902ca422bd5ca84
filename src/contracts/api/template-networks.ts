import { z } from "zod";
import { nameSchema } from "../common/primitives.ts";
import { addressSchema } from "../network-driver/network-state.ts";

export const NETWORKS_PER_SET_MAX = 8;

/** The networks of a set, in the order of its interfaces. */
export const templateNetworks = z
  .array(
    z.strictObject({
      network: nameSchema,
      address: addressSchema
        .optional()
        .describe("The address of the set in the network. The service then has one replica."),
    }),
  )
  .min(1)
  .max(NETWORKS_PER_SET_MAX);
