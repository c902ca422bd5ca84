import { z } from "zod";
import {
  addressSchema,
  GATEWAYS_PER_NETWORK_MAX,
  macSchema,
  networkIdSchema,
  vniSchema,
} from "../network-driver/network-state.ts";

/** An interface of a set in one network. The database derives it from the addresses of the set. */
export const attachmentSchema = z
  .strictObject({
    networkId: networkIdSchema,
    vni: vniSchema,
    /**
     * The MTU of the interface. Without it, the setting of the host's network driver applies: it
     * depends on the links between hosts. Berth sends none yet.
     */
    mtu: z.number().int().min(1_280).max(65_535).optional(),
    interface: z.string().regex(/^eth\d$/),
    mac: macSchema,
    /** With the prefix lengths of their subnets, such as 10.64.0.9/16: IPv4 first. */
    addresses: z
      .array(z.string().regex(/^[0-9a-f.:]{2,45}\/\d{1,3}$/))
      .min(1)
      .max(2),
    /** One for each address, in the same order. */
    gateways: z.array(addressSchema).max(GATEWAYS_PER_NETWORK_MAX),
  })
  .meta({ id: "Attachment" });
export type Attachment = z.infer<typeof attachmentSchema>;
