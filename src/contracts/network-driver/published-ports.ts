import { z } from "zod";

/** A port of a set, and the port of its host that leads there. */
export const publishedPortSchema = z.object({
  protocol: z.enum(["tcp", "udp"]),
  hostPort: z.number().int().min(1).max(65_535),
  port: z.number().int().min(1).max(65_535),
});
export type PublishedPort = z.output<typeof publishedPortSchema>;

/** That of a template. */
const PUBLISHED_PORTS_MAX = 8;
export const publishedPortsSchema = z.array(publishedPortSchema).max(PUBLISHED_PORTS_MAX);

/** Renders published ports as an option of Docker or an external id: "tcp/20001=80,udp/53=5353". */
export function formatPublishedPorts(ports: readonly PublishedPort[]): string {
  return ports.map(({ protocol, hostPort, port }) => `${protocol}/${hostPort}=${port}`).join(",");
}

/** Reads what `formatPublishedPorts` wrote. An invalid part fails the schema. */
export function splitPublishedPorts(text: string): unknown[] {
  if (text === "") return [];
  return text.split(",").map((part) => {
    const [, protocol, hostPort, port] = /^(\w+)\/(\d{1,5})=(\d{1,5})$/.exec(part) ?? [];
    return { protocol, hostPort: Number(hostPort), port: Number(port) };
  });
}

/** Returns a host port that both lists have, such as "20001/tcp". */
export function findSharedHostPort(
  ports: readonly PublishedPort[] = [],
  others: readonly PublishedPort[] = [],
): string | undefined {
  const shared = ports.find(({ protocol, hostPort }) =>
    others.some((other) => other.protocol === protocol && other.hostPort === hostPort),
  );
  return shared && `${shared.hostPort}/${shared.protocol}`;
}
