import { z } from "zod";
import { nameSchema } from "../common/primitives.ts";

const PORTS_PER_SET_MAX = 16;
/** That of service names in RFC 6335, because SRV records have the names of ports. */
const PORT_NAME_CHARACTERS_MAX = 15;

/** A port at which a container of the set listens. */
const templatePort = z.strictObject({
  name: nameSchema.max(PORT_NAME_CHARACTERS_MAX).regex(/[a-z]/, "expected at least one letter"),
  port: z.number().int().min(1).max(65_535),
  protocol: z.enum(["tcp", "udp"]).default("tcp"),
});

export const templatePorts = z
  .array(templatePort)
  .min(1)
  .max(PORTS_PER_SET_MAX)
  .describe("The ports at which containers of the set listen, by name.");

type TemplatePort = z.output<typeof templatePort>;

/** Checks that each name, and each port of a protocol, is there once. */
export function checkPorts(
  ports: readonly TemplatePort[],
  addIssue: (path: (string | number)[], message: string) => void,
): void {
  const names = new Set<string>();
  const used = new Set<string>();
  for (const [position, { name, port, protocol }] of ports.entries()) {
    if (names.has(name))
      addIssue(["ports", position, "name"], `the name "${name}" is used twice: choose another one`);
    const key = `${port}/${protocol}`;
    if (used.has(key)) addIssue(["ports", position, "port"], `the port ${key} is named twice`);
    names.add(name);
    used.add(key);
  }
}
