import { access, chown, mkdir, readdir, rename, rm, stat, writeFile } from "node:fs/promises";
import path from "node:path";
import {
  type NameServer,
  NameServerError,
  type NameTable,
} from "../../network-driver/ports/name-server.ts";
import { CommandError, runCommand } from "../exec.ts";
import {
  controlFolderIn,
  renderConfig,
  renderControlConfig,
  renderZones,
  type UnboundSettings,
  zoneFileIn,
  zoneNameOf,
} from "./render-unbound.ts";

const unbound = "/usr/sbin/unbound";
const unboundControl = "/usr/sbin/unbound-control";
const unboundCheck = "/usr/sbin/unbound-checkconf";
const commandTimeoutMs = 5_000;
/** More changed zones cost more commands than a reload of all. */
const zonesPerChangeMax = 32;
const configName = "unbound.conf";
/** The file exists once the server has answered. */
const servedName = "served";
/** Short, because each command reads it. */
const controlConfigName = "control.conf";

export interface UnboundOptions extends UnboundSettings {
  /** The servers for names outside of the domain. They may change at any time. */
  readResolvers: () => Promise<readonly string[]>;
}

interface Rendered {
  config: string;
  zones: ReadonlyMap<string, string>;
}

/**
 * NameServer on unbound. A zone of the table is a file, which a rename replaces. unbound reads a
 * changed file again within milliseconds. Meanwhile it answers no query, and loses none, not even
 * one that it has forwarded.
 *
 * New networks and other resolvers need a reload. It loses the queries that unbound has forwarded,
 * and takes tenths of a second. Networks that have left need none: no query of theirs arrives.
 *
 * Files precede commands. So a server that starts at any time has the newest files, or gets the
 * command. After an error, the next call reloads everything. It also writes missing files.
 */
export function createUnboundServer(options: UnboundOptions): NameServer {
  const { folder, address, readResolvers } = options;
  /** The content of the files. Undefined if it is unknown. */
  let written: Rendered | undefined;
  /** Whether the server has certainly loaded the files. */
  let isLoaded = false;
  let last: { table: NameTable; resolvers: string; rendered: Rendered } | undefined;
  const render = async (table: NameTable): Promise<Rendered> => {
    const resolvers = await readResolvers();
    const joined = resolvers.join();
    if (last?.table === table && last.resolvers === joined) return last.rendered;
    const rendered = {
      config: renderConfig(options, {
        zoneIds: table.zones.map(({ zoneId }) => zoneId),
        clients: table.clients,
        resolvers,
      }),
      zones: renderZones(table.zones),
    };
    last = { table, resolvers: joined, rendered };
    return rendered;
  };
  return {
    address,
    isInstalled: () => exists(unbound),
    hasServed: () => exists(path.join(folder, servedName)),
    async apply(table, signal) {
      const wanted = await render(table);
      const before = isLoaded ? written : undefined;
      isLoaded = false;
      if (wanted === before) {
        await control(folder, ["status"], signal);
        isLoaded = true;
        return;
      }
      if (!before && !(await exists(path.join(folder, configName)))) written = undefined;
      if (wanted !== written) {
        const previous = written;
        written = undefined;
        await writeFiles(folder, { wanted, previous }, signal);
        written = wanted;
      }
      const changed = listChangedZones(before, wanted);
      if (!before || needsReload(before, wanted) || changed.length > zonesPerChangeMax)
        await control(folder, ["reload_keep_cache"], signal);
      else
        for (const zoneId of changed)
          await control(folder, ["auth_zone_reload", zoneNameOf(zoneId)], signal);
      isLoaded = true;
      await noteServed(folder);
    },
  };
}

function listChangedZones(before: Rendered | undefined, wanted: Rendered): string[] {
  return [...wanted.zones.keys()].filter(
    (zoneId) => before?.zones.get(zoneId) !== wanted.zones.get(zoneId),
  );
}

function exists(file: string): Promise<boolean> {
  return access(file).then(
    () => true,
    () => false,
  );
}

async function noteServed(folder: string): Promise<void> {
  const file = path.join(folder, servedName);
  if (!(await exists(file))) await writeFile(file, "", { mode: 0o640 });
}

/** Whether the server needs lines that it has not loaded, or uses a resolver that has left. */
function needsReload(before: Rendered, wanted: Rendered): boolean {
  if (before.config === wanted.config) return false;
  if (listResolverLines(before.config) !== listResolverLines(wanted.config)) return true;
  const known = new Set(toSettings(before.config));
  return toSettings(wanted.config).some((line) => !known.has(line));
}

function listResolverLines(config: string): string {
  return config
    .split("\n")
    .filter((line) => line.startsWith("  forward-addr:"))
    .join("\n");
}

/** The list of all tags differs whenever a zone does, and so do its own lines. */
function toSettings(config: string): string[] {
  return config.split("\n").filter((line) => !line.startsWith("  define-tag:"));
}

async function writeFiles(
  folder: string,
  { wanted, previous }: { wanted: Rendered; previous: Rendered | undefined },
  signal: AbortSignal,
): Promise<void> {
  try {
    const group = await ensureFolders(folder);
    const write = (file: string, text: string) => replaceFile(file, text, group);
    for (const zoneId of listChangedZones(previous, wanted))
      await write(zoneFileIn(folder, zoneId), wanted.zones.get(zoneId) ?? "");
    if (previous?.config === wanted.config) return;
    await write(path.join(folder, controlConfigName), renderControlConfig(folder));
    const candidate = path.join(folder, `${configName}.next`);
    await write(candidate, wanted.config);
    // A server with an invalid configuration would end.
    await run(unboundCheck, [candidate], signal);
    await rename(candidate, path.join(folder, configName));
    await removeOtherZones(folder, wanted);
  } catch (error) {
    if (error instanceof NameServerError || signal.aborted) throw error;
    const reason = error instanceof Error ? error.message : String(error);
    throw new NameServerError(`The files of the name server cannot be written: ${reason}`, {
      cause: error,
    });
  }
}

/**
 * Returns the group of the folder above, which the package gives to the user of the server. The
 * server may write only the folder of its control socket.
 */
async function ensureFolders(folder: string): Promise<number> {
  const { uid, gid } = await stat(path.dirname(folder));
  const ensure = async (one: string, owner: number) => {
    await mkdir(one, { recursive: true, mode: 0o750 });
    await chown(one, owner, gid);
  };
  await ensure(folder, 0);
  await ensure(path.dirname(zoneFileIn(folder, "")), 0);
  await ensure(controlFolderIn(folder), uid);
  return gid;
}

/** Only root and the server can read the file. It need not survive a power failure. */
async function replaceFile(file: string, text: string, group: number): Promise<void> {
  const temporary = `${file}.new`;
  await writeFile(temporary, text, { mode: 0o640 });
  await chown(temporary, 0, group);
  await rename(temporary, file);
}

async function removeOtherZones(folder: string, { zones }: Rendered): Promise<void> {
  const files = path.dirname(zoneFileIn(folder, ""));
  const wanted = new Set([...zones.keys()].map((zoneId) => path.basename(zoneFileIn("", zoneId))));
  for (const name of await readdir(files))
    if (!wanted.has(name)) await rm(path.join(files, name), { force: true });
}

async function control(
  folder: string,
  command: readonly string[],
  signal: AbortSignal,
): Promise<void> {
  await run(unboundControl, ["-c", path.join(folder, controlConfigName), ...command], signal);
}

async function run(program: string, args: readonly string[], signal: AbortSignal): Promise<void> {
  try {
    await runCommand(program, args, { timeoutMs: commandTimeoutMs, signal });
  } catch (error) {
    if (!(error instanceof CommandError)) throw error;
    throw new NameServerError(
      `The name server of this host does not answer. Check the unit berth-dns. ${error.message}`,
      { cause: error },
    );
  }
}
