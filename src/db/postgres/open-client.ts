import postgres from "postgres";
import { drizzleTypes } from "./drizzle-client.ts";
import type { ClientSource, OpenedClient } from "./pooled-connection.ts";

const CONNECT_SECONDS = 10;
/** Shorter, because the next host may be the primary. */
const CONNECT_SECONDS_PER_HOST = 3;

/**
 * Opens driver clients of one connection to the hosts of a database URL. The driver tries the
 * hosts in order until one accepts the connection. A host that does not answer or is a standby is
 * avoided: later clients try the host after it first.
 */
export function openClientSource(databaseUrl: string, applicationName: string): ClientSource {
  const { url, hosts } = parseHosts(databaseUrl);
  let first = 0;
  const openFrom = (start: number, onclose: () => void): postgres.Sql => {
    const ordered = [...hosts.slice(start), ...hosts.slice(0, start)];
    // The driver takes arrays, which its types do not show.
    const several = {
      host: ordered.map(({ host }) => host),
      port: ordered.map(({ port }) => port),
    } as unknown as { host: string; port: number };
    const client = postgres(url, {
      ...(hosts.length > 1 ? several : {}),
      max: 1,
      max_lifetime: null,
      connect_timeout: hosts.length > 1 ? CONNECT_SECONDS_PER_HOST : CONNECT_SECONDS,
      onnotice: () => undefined,
      onclose,
      // The only startup parameter beside user and database: PgBouncer refuses those that it does
      // not know.
      connection: { application_name: applicationName },
    });
    Object.assign(client.options.parsers, drizzleTypes.parsers);
    Object.assign(client.options.serializers, drizzleTypes.serializers);
    return client;
  };
  return {
    hostCount: Math.max(1, hosts.length),
    open(onClose): OpenedClient {
      const start = first;
      const avoidHost = (): void => {
        if (first === start) first = (start + 1) % Math.max(1, hosts.length);
      };
      return { client: openFrom(start, onClose), avoidHost };
    },
  };
}

interface DatabaseHost {
  host: string;
  port: number;
}

const DEFAULT_PORT = 5432;

/** The hosts of a URL with several, and the URL with the first one. No hosts: the URL has one. */
function parseHosts(databaseUrl: string): { url: string; hosts: DatabaseHost[] } {
  const parts = /^(postgres(?:ql)?:\/\/(?:[^@/?#]*@)?)([^/?#]*,[^/?#]*)(.*)$/.exec(databaseUrl);
  if (!parts) return { url: databaseUrl, hosts: [] };
  const [, before = "", list = "", after = ""] = parts;
  const hosts = list.split(",").map((entry): DatabaseHost => {
    const { hostname, port } = new URL(`postgres://${entry}`);
    return {
      host: hostname.replaceAll(/^\[|\]$/g, ""),
      port: port === "" ? DEFAULT_PORT : Number(port),
    };
  });
  return { url: `${before}${list.split(",")[0]}${after}`, hosts };
}
