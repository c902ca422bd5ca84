import { chmod, mkdir, open, readFile, rename, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import { isEncryptionKey, newEncryptionKey } from "../../lib/keyring.ts";
import { Secret } from "../../lib/secret.ts";
import { newSecret } from "../../lib/token-hash.ts";

/** The data folder of an all-in-one Berth, accessible only to its owner. */
export interface DataFolder {
  /** Absolute. */
  path: string;
  databaseDir: string;
  adminTokenFile: string;
  encryptionKeyFile: string;
  /** Publishes the API's URL for the command line. */
  announce(apiUrl: string): Promise<void>;
  /** Withdraws the URL and unlocks the folder. */
  release(): Promise<void>;
}

const LOCK_FILE = "lock";
const API_FILE = "api.json";
const LOCK_TRIES_MAX = 3;

/**
 * Creates the folder if necessary, and locks it against other processes, which would write to the
 * same database. Takes over the lock of a killed process. Throws if the folder is in use.
 */
export async function openDataFolder(directory: string): Promise<DataFolder> {
  const root = path.resolve(directory);
  await mkdir(root, { recursive: true, mode: 0o700 });
  await chmod(root, 0o700);
  const lockFile = path.join(root, LOCK_FILE);
  await takeLock(lockFile);
  const apiFile = path.join(root, API_FILE);
  const adminTokenFile = path.join(root, "admin-token");
  return {
    path: root,
    databaseDir: path.join(root, "database"),
    adminTokenFile,
    encryptionKeyFile: path.join(root, "encryption-key"),
    announce: (apiUrl) => replaceFile(apiFile, `${JSON.stringify({ apiUrl, adminTokenFile })}\n`),
    release: async () => {
      await rm(apiFile, { force: true });
      await rm(lockFile, { force: true });
    },
  };
}

/** Returns the admin secret of this folder: the given one, the stored one, or a new one. */
export async function ensureAdminSecret(
  folder: DataFolder,
  given: string | undefined,
): Promise<string> {
  const stored = await readIfThere(folder.adminTokenFile);
  const secret = given ?? (stored?.trim() || newSecret());
  if (stored?.trim() !== secret) await replaceFile(folder.adminTokenFile, `${secret}\n`);
  return secret;
}

/**
 * Returns the keys that encrypt secrets in the database: the given ones, and then the stored one.
 * Without any, it stores a new one. Throws if the file has something else, because a new key could
 * not decrypt the database.
 */
export async function loadEncryptionKeys(
  folder: DataFolder,
  given: readonly Secret[] = [],
): Promise<Secret[]> {
  const file = folder.encryptionKeyFile;
  let stored = (await readIfThere(file))?.trim();
  if (stored === undefined && given.length === 0) {
    stored = newEncryptionKey();
    await replaceFile(file, `${stored}\n`);
  }
  if (stored === undefined) return [...given];
  if (!isEncryptionKey(stored))
    throw new Error(
      `${file} must contain one key, the output of "openssl rand -base64 32". Restore it from a backup. If you delete it, Berth creates a new key, and tenants must log in to their registries again.`,
    );
  return [...given, new Secret(stored)];
}

async function takeLock(lockFile: string): Promise<void> {
  const own = `${process.pid} ${(await readStartTime(process.pid)) ?? ""}`;
  for (let attempt = 0; attempt < LOCK_TRIES_MAX; attempt++) {
    try {
      const file = await open(lockFile, "wx", 0o600);
      await file.writeFile(own);
      await file.close();
      return;
    } catch (error) {
      if (!isCode(error, "EEXIST")) throw error;
    }
    const [pid = "", startTime] = ((await readIfThere(lockFile)) ?? "").split(" ");
    const isRunning = startTime !== undefined && (await readStartTime(Number(pid))) === startTime;
    if (isRunning) {
      throw new Error(
        `${path.dirname(lockFile)} is in use by process ${pid}. Stop that process, or choose another BERTH_DATA_DIR.`,
      );
    }
    await rm(lockFile, { force: true });
  }
  throw new Error(`cannot lock ${lockFile}`);
}

/**
 * Reads the start time of a process in ticks since boot. It distinguishes the process from a later
 * one with the same id.
 */
async function readStartTime(pid: number): Promise<string | undefined> {
  const stat = await readIfThere(`/proc/${pid}/stat`);
  // The name, in parentheses, may contain any character.
  return stat?.slice(stat.lastIndexOf(")") + 2).split(" ")[19];
}

async function readIfThere(file: string): Promise<string | undefined> {
  try {
    return await readFile(file, "utf8");
  } catch (error) {
    if (isCode(error, "ENOENT")) return undefined;
    throw error;
  }
}

/** Replaces a file atomically. */
async function replaceFile(file: string, text: string): Promise<void> {
  const temporary = `${file}.new`;
  await rm(temporary, { force: true });
  await writeFile(temporary, text, { mode: 0o600, flag: "wx" });
  await rename(temporary, file);
}

function isCode(error: unknown, code: string): boolean {
  return error instanceof Error && "code" in error && error.code === code;
}
