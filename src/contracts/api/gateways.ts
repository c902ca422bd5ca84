import { z } from "zod";
import { idSchema, nameSchema } from "../common/primitives.ts";
import { portName, portNumber, portProtocols, type TemplatePort } from "./template-ports.ts";

const GATEWAY_PORTS_PER_SERVICE_MAX = 16;
/** The ports that the services of one tenant can have on one gateway. */
export const GATEWAY_PORTS_PER_TENANT_MAX = 100;

const serviceGatewayPortSchema = z.strictObject({
  port: portName.describe("The name of a port in the template."),
  gatewayGroup: nameSchema.describe("The hosts that operators have put into this group."),
  gatewayPort: portNumber.describe("The port of these hosts at which clients connect."),
});

/** The ports of gateways at which clients reach a service, on whatever hosts its sets are. */
export const gatewayPortsSchema = z
  .array(serviceGatewayPortSchema)
  .max(GATEWAY_PORTS_PER_SERVICE_MAX)
  .describe("The ports of gateways at which other machines reach the service.");
export type ServiceGatewayPort = z.output<typeof serviceGatewayPortSchema>;

/** Why clients cannot connect to a port of a gateway. */
const gatewayReasons = [
  "host-not-ready",
  "host-port-taken",
  "limit-reached",
  "subnet-exhausted",
  "publishing-unavailable",
  "no-endpoints",
  "pending",
] as const;

/** A port of a service on one gateway. */
export const gatewayPortSchema = z
  .strictObject({
    port: portName,
    protocol: z.enum(portProtocols),
    gatewayGroup: nameSchema,
    host: z.strictObject({ id: idSchema("host"), name: nameSchema }),
    address: z.string().nullable().describe("The address of the host. Null if it is unknown."),
    gatewayPort: portNumber,
    reason: z
      .enum(gatewayReasons)
      .nullable()
      .describe(
        "Why clients cannot connect. Null if they can. `host-port-taken`: a set or another service has the port of that host. `limit-reached`: the host, or the tenant on it, takes no further port. `subnet-exhausted`: the network has no address for the gateway. `publishing-unavailable`: the host cannot publish services now. `no-endpoints`: no ready set in the network has the port. `pending`: Berth assigns the port within seconds.",
      ),
  })
  .meta({ id: "GatewayPort" });
export type GatewayPort = z.infer<typeof gatewayPortSchema>;

/**
 * Checks that each port of gateways names a port of the template, and that no two have one port of
 * the gateways.
 */
export function checkGatewayPorts(
  gatewayPorts: readonly ServiceGatewayPort[],
  ports: readonly TemplatePort[],
  addIssue: (path: (string | number)[], message: string) => void,
): void {
  const protocols = new Map(ports.map(({ name, protocol }) => [name, protocol]));
  const taken = new Set<string>();
  for (const [position, { port, gatewayGroup, gatewayPort }] of gatewayPorts.entries()) {
    const protocol = protocols.get(port);
    if (protocol === undefined) {
      const message = `the template has no port "${port}": add it to \`ports\` of the template`;
      addIssue(["gatewayPorts", position, "port"], message);
      continue;
    }
    const key = `${gatewayGroup} ${gatewayPort}/${protocol}`;
    if (taken.has(key))
      addIssue(
        ["gatewayPorts", position, "gatewayPort"],
        `port ${gatewayPort}/${protocol} of the gateways "${gatewayGroup}" is published twice`,
      );
    taken.add(key);
  }
}
