import {
  SwitchError,
  type TrackedConnection,
  type TrackedConnections,
  type Translation,
} from "../../network-driver/ports/switch-port.ts";

/** One connection in a line of `dpctl/dump-conntrack`. The last port is that of the receiver. */
const connectionPattern =
  /^(\w+),orig=\(src=([\da-f.:]+),dst=([\da-f.:]+)[^)]*\),reply=\(src=([\da-f.:]+),dst=[\da-f.:]+(?:,sport=(\d+))?/;
const passesMax = 8;
const filtersPerPassMax = 64;
/** Each selected kind of connections costs a call of 10 ms. The last pass finds none. */
const kindsMax = (passesMax - 1) * filtersPerPassMax;
/**
 * Other protocols have their number as name. ICMPv6 is missing: Open vSwitch 3.1 dies if it removes
 * such a connection in the netdev datapath.
 */
const protocolNumbers: Readonly<Record<string, number>> = {
  icmp: 1,
  igmp: 2,
  tcp: 6,
  udp: 17,
  dccp: 33,
  sctp: 132,
  udplite: 136,
};

/** Commands of `ovs-appctl dpctl` for the zone of the connections. */
export interface ConnectionCommands {
  /** `dump-conntrack`: calls `onLine` for each line of the output. */
  dump(onLine: (line: string) => void): Promise<void>;
  /** `flush-conntrack`: without filters, all connections of the zone. */
  flush(...filters: readonly string[]): Promise<unknown>;
}

/** See `SwitchPort.endConnections`. */
export async function endTrackedConnections(
  { zone, isStale, isSelected }: TrackedConnections,
  commands: ConnectionCommands,
): Promise<void> {
  if (!isStale && !isSelected) {
    await commands.flush();
    return;
  }
  // The daemon lists connections while it removes some, and misses others.
  for (let pass = 1; pass <= passesMax; pass++) {
    const connections = await listConnections(commands);
    const filters = isSelected
      ? listSelectedFilters(connections, isSelected)
      : listDestinationFilters(connections, isStale ?? (() => true));
    if (filters.length === 0) return;
    if (isSelected && filters.length > kindsMax) break;
    for (const filter of filters.slice(0, filtersPerPassMax)) await commands.flush(...filter);
  }
  if (isSelected) {
    await commands.flush();
    return;
  }
  throw new SwitchError(`Some connections in the conntrack zone ${zone} are left.`);
}

/** See `SwitchPort.listTranslations`. */
export async function listTranslations(commands: ConnectionCommands): Promise<Translation[]> {
  const translations = (await listConnections(commands))
    .filter(isTranslated)
    .map(({ destination, to }): [string, Translation] => [
      `${destination} ${to}`,
      { destination, translatedTo: to },
    ]);
  return [...new Map(translations).values()];
}

interface ListedConnection extends TrackedConnection {
  protocolNumber: number;
  /** The destination before a translation. */
  destination: string;
}

/**
 * Lists the connections of the zone, without those that must last. Connections that differ only in
 * the port of the sender are one. A zone has at most an eighth of the host's tracked connections,
 * which bounds the list.
 */
async function listConnections(commands: ConnectionCommands): Promise<ListedConnection[]> {
  const connections = new Map<string, ListedConnection>();
  await commands.dump((line) => {
    const connection = readConnection(line);
    if (!connection) return;
    const { protocolNumber, from, destination, to, port } = connection;
    const key = `${protocolNumber} ${from} ${destination} ${to} ${port}`;
    if (!connections.has(key)) connections.set(key, connection);
  });
  return [...connections.values()];
}

function readConnection(line: string): ListedConnection | undefined {
  const [match, name = "", from = "", destination = "", to = "", port] =
    connectionPattern.exec(line) ?? [];
  const protocolNumber = protocolNumbers[name] ?? Number(name);
  if (match === undefined || Number.isNaN(protocolNumber)) return undefined;
  const hasPorts = name === "tcp" || name === "udp";
  return {
    protocolNumber,
    from,
    destination,
    to,
    protocol: hasPorts || name === "icmp" ? name : "other",
    port: hasPorts && port !== undefined ? Number(port) : null,
  };
}

/**
 * The filters of `flush-conntrack` for the selected connections. If they are of too many senders,
 * such as the clients of a gateway, all connections to the same ports of their receivers.
 */
function listSelectedFilters(
  connections: readonly ListedConnection[],
  isSelected: (connection: TrackedConnection) => boolean,
): [string, string][] {
  const filters = listFilters(connections, isSelected);
  if (filters.length <= kindsMax) return filters;
  const byReceiver = new Map<string, [string, string]>();
  for (const connection of connections) {
    const { protocolNumber, destination, to, port } = connection;
    const key = `${protocolNumber} ${destination} ${to} ${port}`;
    if (byReceiver.has(key) || !isSelected(connection)) continue;
    const protocol = `,ct_nw_proto=${protocolNumber}`;
    const source = port === null ? "" : `,ct_tp_src=${port}`;
    byReceiver.set(key, [
      `${fieldOf(destination)}_dst=${destination}${protocol}`,
      `${fieldOf(to)}_src=${to}${protocol}${source}`,
    ]);
  }
  return [...byReceiver.values()];
}

/** The filters of `flush-conntrack` for the selected connections: one for each kind of them. */
function listFilters(
  connections: readonly ListedConnection[],
  isSelected: (connection: TrackedConnection) => boolean,
): [string, string][] {
  const seen = new Set<string>();
  const filters: [string, string][] = [];
  for (const connection of connections) {
    const { protocolNumber, from, to, port } = connection;
    const key = `${protocolNumber} ${from} ${to} ${port}`;
    if (seen.has(key)) continue;
    seen.add(key);
    if (!isSelected(connection)) continue;
    const protocol = `,ct_nw_proto=${protocolNumber}`;
    const source = port === null ? "" : `,ct_tp_src=${port}`;
    filters.push([
      `${fieldOf(from)}_src=${from}${protocol}`,
      `${fieldOf(to)}_src=${to}${protocol}${source}`,
    ]);
  }
  return filters;
}

/**
 * The filters for the connections to these destinations: the original one, and the source of the
 * answers.
 */
function listDestinationFilters(
  connections: readonly ListedConnection[],
  isStale: (destinations: Translation) => boolean,
): [string, string][] {
  const filters = new Map<string, [string, string]>();
  for (const { protocolNumber, destination, to } of connections) {
    if (!isStale({ destination, translatedTo: to })) continue;
    // Without a protocol, the filter would also match the protocol that must last.
    const field = fieldOf(to);
    const protocol = field === "ct_nw" ? "" : `,ct_nw_proto=${protocolNumber}`;
    filters.set(`${destination} ${to}${protocol}`, [
      `${field}_dst=${destination}${protocol}`,
      `${field}_src=${to}${protocol}`,
    ]);
  }
  return [...filters.values()];
}

function isTranslated({ destination, to }: ListedConnection): boolean {
  return destination !== to;
}

function fieldOf(address: string): string {
  return address.includes(":") ? "ct_ipv6" : "ct_nw";
}
