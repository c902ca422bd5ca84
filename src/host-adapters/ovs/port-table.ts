import { z } from "zod";
import { SwitchError } from "../../network-driver/ports/switch-port.ts";
import type { OvsdbOperation, OvsdbSession } from "./ovsdb-session.ts";

/**
 * The ports of a bridge in the database. A port is a row of the table Port, with one row of the
 * table Interface of the same name. The names in both tables are unique. The database removes both
 * rows with the last reference of a bridge.
 */

/** The key of the stored index of an interface: see OvsSwitch. Open vSwitch ignores it. */
const openedKey = "berth-ifindex";

const uuidSchema = z.tuple([z.literal("uuid"), z.string()]);
/** A set of one value is the value itself. */
const uuidSetSchema = z.union([uuidSchema, z.tuple([z.literal("set"), z.array(uuidSchema)])]);
const emptySchema = z.tuple([z.literal("set"), z.array(z.never())]);
const mapSchema = z.tuple([z.literal("map"), z.array(z.tuple([z.string(), z.string()]))]);
const interfaceSchema = z.object({
  name: z.string(),
  ofport: z.union([z.number(), emptySchema]),
  ifindex: z.union([z.number(), emptySchema]),
  external_ids: mapSchema,
  other_config: mapSchema,
  error: z.union([z.string(), emptySchema]),
});
const interfaceColumns = Object.keys(interfaceSchema.shape);
const portSchema = z.object({ _uuid: uuidSchema, name: z.string() });
const bridgeSchema = z.object({ ports: uuidSetSchema });

export interface InterfaceRow {
  name: string;
  externalIds: Readonly<Record<string, string>>;
  /** Undefined until the daemon has opened the interface. */
  ofPort: number | undefined;
  /** The daemon has not seen the port yet. */
  isNew: boolean;
  /** 0 if the interface has vanished. */
  interfaceIndex: number;
  /** The interface is the one that the daemon has opened. */
  isOpened: boolean;
  /** The interface that the daemon has opened has vanished. */
  isStale: boolean;
  /** Why the daemon could not open the interface. */
  error: string | undefined;
}

/** Lists the interfaces of the ports of a bridge, without that of the bridge itself. */
export async function listInterfaces(
  session: OvsdbSession,
  bridge: string,
): Promise<InterfaceRow[]> {
  const { rows, isOwn } = await readPorts(session, bridge, []);
  return rows.filter(({ name }) => name !== bridge && isOwn(name));
}

/** Finds the interface of a port. Rejects if another bridge has the port. */
export async function findInterface(
  session: OvsdbSession,
  bridge: string,
  name: string,
): Promise<InterfaceRow | undefined> {
  const { rows, isOwn } = await readPorts(session, bridge, named(name));
  const [row] = rows;
  if (row && !isOwn(name))
    throw new SwitchError(`${name} is a port of another bridge. Remove it there (ovs-vsctl show).`);
  return row;
}

/** Reads the rows of both tables that meet a condition, which names columns of both. */
async function readPorts(
  session: OvsdbSession,
  bridge: string,
  where: readonly unknown[],
): Promise<{ rows: InterfaceRow[]; isOwn: (name: string) => boolean }> {
  const [bridges, ports, interfaces] = await session.transact([
    { op: "select", table: "Bridge", where: named(bridge), columns: ["ports"] },
    { op: "select", table: "Port", where, columns: ["_uuid", "name"] },
    { op: "select", table: "Interface", where, columns: interfaceColumns },
  ]);
  if (bridges?.rows[0] === undefined) throw noBridge(bridge);
  const references = bridgeSchema.parse(bridges.rows[0]).ports;
  const own = new Set(
    references[0] === "uuid" ? [references[1]] : references[1].map(([, uuid]) => uuid),
  );
  const names = new Set(
    z
      .array(portSchema)
      .parse(ports?.rows)
      .filter(({ _uuid: [, uuid] }) => own.has(uuid))
      .map(({ name }) => name),
  );
  return {
    rows: (interfaces?.rows ?? []).map(readInterface),
    isOwn: (name) => names.has(name),
  };
}

/** Adds a port, and waits until the daemon has tried to open its interface. */
export async function insertPort(
  session: OvsdbSession,
  bridge: string,
  { name, externalIds }: Pick<InterfaceRow, "name" | "externalIds">,
): Promise<void> {
  const row = { name, external_ids: toMap(externalIds) };
  const results = await session.apply([
    { op: "insert", table: "Interface", row, "uuid-name": "interface" },
    {
      op: "insert",
      table: "Port",
      row: { name, interfaces: ["named-uuid", "interface"] },
      "uuid-name": "port",
    },
    mutate("Bridge", bridge, [["ports", "insert", ["named-uuid", "port"]]]),
  ]);
  // Without a reference, the database has removed both rows again.
  if (results[2]?.count !== 1) throw noBridge(bridge);
}

/** Replaces the external ids of an interface. */
export async function updateExternalIds(
  session: OvsdbSession,
  { name, externalIds }: Pick<InterfaceRow, "name" | "externalIds">,
): Promise<void> {
  const row = { external_ids: toMap(externalIds) };
  await session.apply([{ op: "update", table: "Interface", where: named(name), row }]);
}

/** Removes a port from the bridge, and waits until the daemon has closed its interface. */
export async function deletePort(
  session: OvsdbSession,
  bridge: string,
  name: string,
): Promise<void> {
  const [ports] = await session.transact([
    { op: "select", table: "Port", where: named(name), columns: ["_uuid", "name"] },
  ]);
  if (ports?.rows[0] === undefined) return;
  const { _uuid: reference } = portSchema.parse(ports.rows[0]);
  await session.apply([mutate("Bridge", bridge, [["ports", "delete", reference]])]);
}

/** Stores the index of the interface that the daemon has opened. The daemon ignores it. */
export async function storeOpened(
  session: OvsdbSession,
  { name, interfaceIndex }: Pick<InterfaceRow, "name" | "interfaceIndex">,
): Promise<void> {
  await session.transact([
    mutate("Interface", name, [
      ["other_config", "delete", ["set", [openedKey]]],
      ["other_config", "insert", toMap({ [openedKey]: String(interfaceIndex) })],
    ]),
  ]);
}

function readInterface(row: unknown): InterfaceRow {
  const { name, ofport, ifindex, external_ids, other_config, error } = interfaceSchema.parse(row);
  const index = typeof ifindex === "number" ? ifindex : 0;
  const opened = new Map(other_config[1]).get(openedKey);
  return {
    name,
    externalIds: Object.fromEntries(external_ids[1]),
    // The number is -1 if the daemon could not open the interface.
    ofPort: typeof ofport === "number" && ofport > 0 ? ofport : undefined,
    isNew: typeof ofport !== "number",
    interfaceIndex: index,
    isOpened: index > 0 && opened === String(index),
    isStale: opened !== undefined && opened !== String(index),
    error: typeof error === "string" ? error : undefined,
  };
}

function named(name: string) {
  return [["name", "==", name]];
}

function mutate(table: string, name: string, mutations: readonly unknown[]): OvsdbOperation {
  return { op: "mutate", table, where: named(name), mutations };
}

function toMap(content: Readonly<Record<string, string>>) {
  return ["map", Object.entries(content)];
}

function noBridge(bridge: string): SwitchError {
  return new SwitchError(
    `Open vSwitch has no bridge ${bridge}. The driver creates it in its next convergence.`,
  );
}
