import { execFile } from "node:child_process";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { promisify } from "node:util";
import postgres from "postgres";
import { asUser, type ChildServer, findFreePort, startChildServer } from "./child-server.ts";
import { waitUntil } from "../wait-until.ts";

export interface PostgresServer {
  /** The administrator's URL, of the database "postgres". */
  url: string;
  process: ChildServer;
  /** Ends the server immediately and removes its files. */
  stop(): Promise<void>;
}

const installRoot = "/usr/lib/postgresql";
const directoryPrefix = "berth-test-postgres-";
const startsMax = 3;
/** A wait for a program: on a busy User Mode Linux host initdb took longer than a minute. */
const INITDB_DEADLINE_MS = 180_000;
/** Tests need visible commits, but no durability. These settings skip the cost of durability. */
const fastSettings = {
  fsync: "off",
  full_page_writes: "off",
  synchronous_commit: "off",
  max_connections: "300",
  shared_buffers: "64MB",
  autovacuum: "off",
};

/**
 * Starts a new PostgreSQL cluster on a free port of loopback, without a password, in a temporary
 * folder. Postgres refuses to run as root: root starts it as the user postgres. First removes the
 * directories of killed runs.
 * @param settings replace the fast settings of the same name: benchmarks require durability
 */
export async function startPostgres(
  settings: Readonly<Record<string, string>> = {},
): Promise<PostgresServer> {
  await removeStaleDirectories();
  const binaries = await findBinaries();
  const directory = await createDirectory(binaries);
  for (let attempt = 1; ; attempt += 1) {
    const port = await findFreePort();
    const server = startServer(binaries, directory, port, settings);
    const url = `postgres://postgres@127.0.0.1:${port}/postgres`;
    try {
      await waitUntil("postgres answers", () => answers(url, server));
      const stop = async () => {
        await server.kill("SIGQUIT");
        await rm(path.dirname(directory), { recursive: true, force: true });
      };
      return { url, process: server, stop };
    } catch (error) {
      await server.kill("SIGKILL");
      if (attempt === startsMax) {
        throw new Error(`postgres did not start:\n${server.outputTail()}`, { cause: error });
      }
    }
  }
}

/** Starts a hot standby of `primary`, which streams from it until `promote`. */
export async function startStandby(
  primary: PostgresServer,
): Promise<PostgresServer & { promote(): Promise<void> }> {
  const binaries = await findBinaries();
  const parent = await createParent();
  const directory = path.join(parent, "data");
  const run = promisify(execFile);
  const asPostgres = [...asUser("postgres"), "--pdeathsig", "KILL", "--"];
  const backup = ["-d", primary.url, "-D", directory, "-R", "-X", "stream", "-c", "fast"];
  const options = { cwd: "/", timeout: INITDB_DEADLINE_MS };
  await run("setpriv", [...asPostgres, `${binaries}/pg_basebackup`, ...backup], options);
  const port = await findFreePort();
  const server = startServer(binaries, directory, port, {});
  const url = `postgres://postgres@127.0.0.1:${port}/postgres`;
  await waitUntil("the standby answers", () => answers(url, server));
  return {
    url,
    process: server,
    promote: async () => {
      const client = postgres(url, { max: 1 });
      await client`select pg_promote(wait => true)`;
      await client.end();
    },
    stop: async () => {
      await server.kill("SIGQUIT");
      await rm(parent, { recursive: true, force: true });
    },
  };
}

/** Writes a backup in the custom format of pg_dump, as docs/guides/backup.md says. */
export async function dumpDatabase(url: string, file: string): Promise<void> {
  const dump = ["--format=custom", `--file=${file}`, `--dbname=${url}`];
  await promisify(execFile)(`${await findBinaries()}/pg_dump`, dump);
}

/** Restores a backup into an empty database. */
export async function restoreDatabase(url: string, file: string): Promise<void> {
  const restore = ["--exit-on-error", "--no-owner", `--dbname=${url}`, file];
  await promisify(execFile)(`${await findBinaries()}/pg_restore`, restore);
}

function startServer(
  binaries: string,
  directory: string,
  port: number,
  overrides: Readonly<Record<string, string>>,
): ChildServer {
  const settings = {
    ...fastSettings,
    ...overrides,
    listen_addresses: "127.0.0.1",
    port,
    unix_socket_directories: "",
  };
  const args = Object.entries(settings).flatMap(([key, value]) => ["-c", `${key}=${value}`]);
  // QUIT is an immediate shutdown: the postmaster ends its children and frees the shared memory.
  return startChildServer(`${binaries}/postgres`, ["-D", directory, ...args], {
    user: "postgres",
    deathSignal: "QUIT",
  });
}

/** Names the folder after the process id, so that a later run detects whether its owner lives. */
async function createDirectory(binaries: string): Promise<string> {
  const parent = await createParent();
  const directory = path.join(parent, "data");
  const run = promisify(execFile);
  const initdb = [`${binaries}/initdb`, "-D", directory, "-U", "postgres", "--auth=trust"];
  const options = ["--no-sync", "--encoding=UTF8", "--locale=C.UTF-8"];
  const asPostgres = [...asUser("postgres"), "--pdeathsig", "KILL", "--"];
  await run("setpriv", [...asPostgres, ...initdb, ...options], {
    cwd: "/",
    timeout: INITDB_DEADLINE_MS,
  });
  return directory;
}

async function createParent(): Promise<string> {
  const parent = await mkdtemp(path.join(tmpdir(), `${directoryPrefix}${process.pid}-`));
  if (process.getuid?.() === 0) await promisify(execFile)("chown", ["postgres:postgres", parent]);
  return parent;
}

async function removeStaleDirectories(): Promise<void> {
  for (const name of await readdir(tmpdir())) {
    if (!name.startsWith(directoryPrefix)) continue;
    const pid = Number(name.slice(directoryPrefix.length).split("-")[0]);
    if (isAlive(pid)) continue;
    await rm(path.join(tmpdir(), name), { recursive: true, force: true });
  }
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch (error) {
    return error instanceof Error && "code" in error && error.code === "EPERM";
  }
}

/** The newest installed version's programs: Debian keeps them out of PATH. */
async function findBinaries(): Promise<string> {
  const versions = await readdir(installRoot).catch(() => []);
  const newest = versions
    .map(Number)
    .filter(Number.isInteger)
    .toSorted((a, b) => b - a)[0];
  if (newest === undefined) {
    throw new Error(
      `no PostgreSQL server in ${installRoot}: run scripts/setup, or set TEST_DATABASE_URL`,
    );
  }
  return `${installRoot}/${newest}/bin`;
}

async function answers(url: string, server: ChildServer): Promise<boolean> {
  const client = postgres(url, { max: 1, connect_timeout: 2, onnotice: () => undefined });
  try {
    await client`select 1`;
    return isAlive(server.pid);
  } finally {
    await client.end({ timeout: 1 });
  }
}
