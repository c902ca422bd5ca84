import { z } from "zod";
import { nameSchema } from "../common/primitives.ts";

const PORTS_PER_SET_MAX = 16;
/** The host ports of a host suffice for as many sets as it can have: see hostPortRange. */
export const PUBLISHED_PORTS_PER_SET_MAX = 8;
/** That of service names in RFC 6335, because SRV records have the names of ports. */
const PORT_NAME_CHARACTERS_MAX = 15;

export const portProtocols = ["tcp", "udp"] as const;
export type PortProtocol = (typeof portProtocols)[number];

export const portNumber = z.number().int().min(1).max(65_535);
export const portName = nameSchema
  .max(PORT_NAME_CHARACTERS_MAX)
  .regex(/[a-z]/, "expected at least one letter");

/** A port at which a container of the set listens. */
const templatePort = z.strictObject({
  name: portName,
  port: portNumber,
  protocol: z.enum(portProtocols).default("tcp"),
  publish: z
    .union([z.literal(true), z.strictObject({ hostPort: portNumber })])
    .optional()
    .describe(
      "Makes the port reachable at the address of the host. With true, Berth chooses the host port.",
    ),
});

export const templatePorts = z
  .array(templatePort)
  .min(1)
  .max(PORTS_PER_SET_MAX)
  .describe("The ports at which containers of the set listen, by name.");

export type TemplatePort = z.output<typeof templatePort>;

/** The ports of a template that are published. */
export function listPublished(ports: readonly TemplatePort[] | null | undefined): TemplatePort[] {
  return (ports ?? []).filter(({ publish }) => publish !== undefined);
}

/** The host port that a template fixes. Undefined if Berth chooses one, or publishes none. */
export function fixedHostPort({ publish }: Pick<TemplatePort, "publish">): number | undefined {
  return typeof publish === "object" ? publish.hostPort : undefined;
}

/**
 * Checks that each name, and each port and host port of a protocol, is there once, and that not too
 * many ports are published.
 */
export function checkPorts(
  ports: readonly TemplatePort[],
  addIssue: (path: (string | number)[], message: string) => void,
): void {
  const names = new Set<string>();
  const used = new Set<string>();
  const hostPorts = new Set<string>();
  for (const [position, { name, port, protocol, publish }] of ports.entries()) {
    if (names.has(name))
      addIssue(["ports", position, "name"], `the name "${name}" is used twice: choose another one`);
    names.add(name);
    const key = `${port}/${protocol}`;
    if (used.has(key)) addIssue(["ports", position, "port"], `the port ${key} is named twice`);
    used.add(key);
    const fixed = fixedHostPort({ publish });
    if (fixed === undefined) continue;
    const hostKey = `${fixed}/${protocol}`;
    if (hostPorts.has(hostKey))
      addIssue(
        ["ports", position, "publish", "hostPort"],
        `the host port ${hostKey} is published twice: choose another one`,
      );
    hostPorts.add(hostKey);
  }
  const published = ports.filter(({ publish }) => publish !== undefined).length;
  if (published > PUBLISHED_PORTS_PER_SET_MAX)
    addIssue(
      ["ports"],
      `${published} ports have \`publish\`, expected at most ${PUBLISHED_PORTS_PER_SET_MAX}`,
    );
}
