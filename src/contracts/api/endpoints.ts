import { z } from "zod";
import { idSchema, nameSchema } from "../common/primitives.ts";
import { gatewayPortSchema } from "./gateways.ts";
import { portName, portNumber, portProtocols } from "./template-ports.ts";

/** The endpoints in one list. A larger service lists its oldest ready sets. */
export const ENDPOINTS_MAX = 1_000;

const interfaceSchema = z.strictObject({
  network: nameSchema.nullable().describe("Null for Docker's bridge."),
  addresses: z.array(z.string()).describe("The IPv4 address first."),
});

const endpointPortSchema = z.strictObject({
  name: portName,
  protocol: z.enum(portProtocols),
  port: portNumber,
  published: z
    .strictObject({ address: z.string(), port: portNumber })
    .nullable()
    .describe("Where other machines reach the port: at its host. Null without `publish`."),
});

/** The ports of gateways in one list. */
export const GATEWAY_PORTS_LISTED_MAX = 1_000;

/** A ready set, and where it accepts connections. */
export const endpointSchema = z
  .strictObject({
    setId: idSchema("set"),
    host: z.strictObject({ id: idSchema("host"), name: nameSchema }),
    reach: z
      .enum(["network", "host"])
      .describe(
        "`network`: sets in the same network reach the addresses. `host`: the set is on Docker's bridge, so only its own host reaches them. Others reach published ports.",
      ),
    interfaces: z
      .array(interfaceSchema)
      .describe("In the order of the networks in the template of the set."),
    ports: z.array(endpointPortSchema).describe("In the order of the template."),
  })
  .meta({ id: "Endpoint" });
export type Endpoint = z.infer<typeof endpointSchema>;

/** `GET /v1/services/{name}/endpoints`. */
export const endpointListSchema = z
  .strictObject({
    service: nameSchema,
    version: z.string().describe("Equal versions have equal endpoints. Also the ETag."),
    total: z
      .number()
      .int()
      .describe(`The number of all endpoints. The list has the first ${ENDPOINTS_MAX}.`),
    endpoints: z.array(endpointSchema).max(ENDPOINTS_MAX).describe("Ordered by the set's id."),
    gateways: z
      .array(gatewayPortSchema)
      .max(GATEWAY_PORTS_LISTED_MAX)
      .describe("Where clients reach the service at gateways, by port and host."),
  })
  .meta({ id: "EndpointList" });
export type EndpointList = z.infer<typeof endpointListSchema>;
