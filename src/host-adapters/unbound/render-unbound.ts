import { isIP } from "node:net";
import { NAMES_DOMAIN } from "../../contracts/network-driver/names-domain.ts";
import {
  type NameClient,
  type NameRecord,
  NameServerError,
  type NameZone,
} from "../../network-driver/ports/name-server.ts";

/** Seconds for which clients may cache an answer. */
const timeToLive = 1;
/** Queries per second of one network. The server drops nine of ten above it. */
const queriesPerSecondMax = 2_000;
/** Open TCP connections of all networks, and of each one. */
const tcpConnectionsMax = 128;
const tcpConnectionsOfNetworkMax = 8;
/**
 * Queries that wait for resolvers. Of these, half may take any time. If they are more, a new query
 * replaces one that has waited for `replaceableAfterMs`. So slow queries of one network do not
 * stop those of others.
 */
const waitingQueriesMax = 4_096;
const replaceableAfterMs = 200;
/**
 * Seconds until the server forgets how slowly a resolver answers: 15 minutes by default. After 12 s
 * without any answer, it sends that resolver one query at a time, in growing intervals. A name that
 * is never answered can be that query each time. After two minutes, it sends none until it forgets.
 */
const resolverMemoryS = 10;
/** No client has this tag. */
const noClient = "nobody";
const zoneIdPattern = /^[a-z0-9_]{1,40}$/;
const namePattern = /^[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63}){0,5}$/;

/** The zone that comes before all others, and the one that comes after them. */
const firstZone = "first";
const lastZone = "last";

export interface UnboundSettings {
  /** The folder of the files that `listZoneFiles` and `renderConfig` name. */
  folder: string;
  /** The user of the server after its start. */
  user: string;
  address: string;
  /** The addresses from which networks send their queries, such as 198.19.0.0/16. */
  clientSubnet: string;
}

/** Renders the configuration of the program that sends commands. */
export function renderControlConfig(folder: string): string {
  return `${listControlSettings(folder).join("\n")}\n`;
}

function listControlSettings(folder: string): string[] {
  return [
    "remote-control:",
    "  control-enable: yes",
    `  control-interface: "${controlFolderIn(folder)}/control.sock"`,
    "  control-use-cert: no",
  ];
}

/** The folder of the control socket, which the server creates again at each reload. */
export function controlFolderIn(folder: string): string {
  return `${folder}/control`;
}

/** The name of the zone in commands of the server. */
export function zoneNameOf(zoneId: string): string {
  if (!zoneIdPattern.test(zoneId)) throw invalid("zone", zoneId);
  return `${zoneId}.names.`;
}

export function zoneFileIn(folder: string, zoneId: string): string {
  return `${folder}/zones/${zoneId}.zone`;
}

/**
 * Renders the configuration. Each network is a client with tags, and each zone is a response policy
 * zone (RPZ) with a tag.
 *
 * unbound 1.17 ignores the tags where an answer from outside has a CNAME to a name of the domain.
 * Then the first zone applies, which has no tag of a client, and the name does not exist. Without
 * it, a client could see the names of other tenants. Later releases respect the tags there, too.
 */
export function renderConfig(
  { folder, user, address, clientSubnet }: UnboundSettings,
  {
    zoneIds,
    clients,
    resolvers,
  }: { zoneIds: readonly string[]; clients: readonly NameClient[]; resolvers: readonly string[] },
): string {
  const tags = [noClient, ...zoneIds];
  const lines = [
    "server:",
    `  directory: "${folder}"`,
    '  chroot: ""',
    `  username: "${user}"`,
    '  pidfile: ""',
    "  do-daemonize: no",
    "  use-syslog: no",
    "  # With one thread, no query is answered while a zone is replaced.",
    "  num-threads: 1",
    `  interface: ${checkAddress(address)}`,
    "  # The address belongs to the uplink, which the network driver may create later.",
    "  ip-freebind: yes",
    `  access-control: ${clientSubnet} allow`,
    "  access-control: 127.0.0.0/8 refuse",
    "  do-not-query-localhost: no",
    '  module-config: "respip iterator"',
    `  ip-ratelimit: ${queriesPerSecondMax}`,
    `  incoming-num-tcp: ${tcpConnectionsMax}`,
    ...clients.map(
      ({ address: client }) =>
        `  tcp-connection-limit: ${checkAddress(client)}/32 ${tcpConnectionsOfNetworkMax}`,
    ),
    `  num-queries-per-thread: ${waitingQueriesMax}`,
    `  outgoing-range: ${2 * waitingQueriesMax}`,
    `  jostle-timeout: ${replaceableAfterMs}`,
    `  infra-host-ttl: ${resolverMemoryS}`,
    "  msg-cache-size: 16m",
    "  rrset-cache-size: 32m",
    "  deny-any: yes",
    "  hide-identity: yes",
    "  hide-version: yes",
    "  # The resolvers of the host decide about private addresses and test names.",
    "  unblock-lan-zones: yes",
    '  local-zone: "test." nodefault',
    `  define-tag: "${tags.join(" ")}"`,
    ...clients.map(
      (client) =>
        `  access-control-tag: ${checkAddress(client.address)}/32 "${client.zoneIds.join(" ")}"`,
    ),
    ...listControlSettings(folder),
    "forward-zone:",
    '  name: "."',
    ...resolvers.map((resolver) => `  forward-addr: ${checkAddress(resolver)}`),
    ...renderZoneClause(folder, firstZone, noClient),
    ...zoneIds.flatMap((zoneId) => renderZoneClause(folder, zoneId, zoneId)),
    ...renderZoneClause(folder, lastZone, undefined),
  ];
  return `${lines.join("\n")}\n`;
}

function renderZoneClause(folder: string, zoneId: string, tag: string | undefined): string[] {
  return [
    "rpz:",
    `  name: "${zoneNameOf(zoneId)}"`,
    `  zonefile: "${zoneFileIn(folder, zoneId)}"`,
    ...(tag === undefined ? [] : [`  tags: "${tag}"`]),
  ];
}

/** The texts of all zone files by zone id: those of the table, and the two that deny the rest. */
export function renderZones(zones: readonly NameZone[]): Map<string, string> {
  const denial = [NAMES_DOMAIN, `*.${NAMES_DOMAIN}`].map((name) => `${name} CNAME .`);
  return new Map([
    [firstZone, renderZone(firstZone, denial)],
    ...zones.map(({ zoneId, records }): [string, string] => [
      zoneId,
      renderZone(zoneId, records.map(renderRecord)),
    ]),
    [lastZone, renderZone(lastZone, denial)],
  ]);
}

function renderZone(zoneId: string, records: readonly string[]): string {
  const head = [
    `$ORIGIN ${zoneNameOf(zoneId)}`,
    `$TTL ${timeToLive}`,
    `@ SOA localhost. root.localhost. 1 3600 1200 604800 ${timeToLive}`,
    "@ NS localhost.",
  ];
  return `${[...head, ...records].join("\n")}\n`;
}

function renderRecord(record: NameRecord): string {
  const owner = toDomain(record.name);
  if (record.type === "none") return `${owner} CNAME *.`;
  if (record.type === "SRV") return `${owner} SRV 0 0 ${record.port} ${toDomain(record.target)}.`;
  return `${owner} ${record.type} ${checkAddress(record.address)}`;
}

function toDomain(name: string): string {
  if (!namePattern.test(name)) throw invalid("name", name);
  return `${name}.${NAMES_DOMAIN}`;
}

function checkAddress(address: string): string {
  if (isIP(address) === 0) throw invalid("address", address);
  return address;
}

function invalid(what: string, value: string): NameServerError {
  return new NameServerError(`The name server accepts no ${what} ${JSON.stringify(value)}.`);
}
