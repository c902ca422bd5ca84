import { mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { newEncryptionKey } from "../../lib/keyring.ts";
import { Secret } from "../../lib/secret.ts";
import { type DataFolder, loadEncryptionKeys, openDataFolder } from "./data-dir.ts";

let folder: DataFolder;
const load = async (given?: readonly Secret[]) =>
  (await loadEncryptionKeys(folder, given)).map((key) => key.reveal());

beforeEach(async () => {
  folder = await openDataFolder(await mkdtemp(path.join(tmpdir(), "berth-data-")));
});
afterEach(async () => {
  await folder.release();
  await rm(folder.path, { recursive: true });
});

it("stores a new encryption key once, readable by its owner only", async () => {
  const [key = "", ...others] = await load();
  expect(others).toEqual([]);
  expect(await load()).toEqual([key]);
  expect(await readFile(folder.encryptionKeyFile, "utf8")).toBe(`${key}\n`);
  expect((await stat(folder.encryptionKeyFile)).mode & 0o777).toBe(0o600);
});

it("encrypts with a configured key, and still decrypts with the stored one", async () => {
  const given = new Secret(newEncryptionKey());
  expect(await load([given])).toEqual([given.reveal()]);
  await expect(stat(folder.encryptionKeyFile)).rejects.toThrow("ENOENT");
  const stored = await load();
  expect(await load([given])).toEqual([given.reveal(), ...stored]);
});

it("never replaces a damaged key, because a new one decrypts nothing", async () => {
  await writeFile(folder.encryptionKeyFile, "");
  await expect(load()).rejects.toThrow("Restore it from a backup");
  expect(await readFile(folder.encryptionKeyFile, "utf8")).toBe("");
});
