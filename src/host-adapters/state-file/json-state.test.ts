import { mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { z } from "zod";
import { openJsonState } from "./json-state.ts";

const schema = z.strictObject({ version: z.literal(1), count: z.number() });
let folder: string;
let file: string;
beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "berth-json-state-"));
  file = path.join(folder, "records.json");
});
afterEach(() => rm(folder, { recursive: true, force: true }));

it("loads what it saved, and only its owner can read it", async () => {
  expect(await openJsonState(file, schema).load()).toEqual({ kind: "missing" });
  const store = openJsonState(file, schema);
  const values = [1, 2, 3].map((count) => ({ version: 1 as const, count }));
  await Promise.all(values.map((value) => store.save(() => value)));
  expect(await openJsonState(file, schema).load()).toEqual({ kind: "valid", value: values[2] });
  expect((await stat(file)).mode & 0o777).toBe(0o600);
});

it.each([
  ["a torn file", '{"version":1,"cou', "it is not complete JSON"],
  ["an empty file", "", "it is empty or too large"],
  ["a foreign file", '{"version":2,"count":1}', "version"],
])("sets %s aside, and starts without it", async (_name, text, reason) => {
  await writeFile(file, text);
  await writeFile(`${file}.abandoned.new`, "of a killed process");
  const loaded = await openJsonState(file, schema).load();
  expect(loaded).toMatchObject({ kind: "invalid", movedTo: `${file}.invalid` });
  expect(loaded.kind === "invalid" && loaded.reason).toContain(reason);
  expect(await readFile(`${file}.invalid`, "utf8")).toBe(text);
  expect(await readdir(folder)).toEqual(["records.json.invalid"]);
  expect(await openJsonState(file, schema).load()).toMatchObject({ kind: "invalid" });
  await rm(`${file}.invalid`);
  expect(await openJsonState(file, schema).load()).toEqual({ kind: "missing" });
});

it("rejects if the file cannot be read, because it may be valid", async () => {
  await expect(openJsonState(folder, schema).load()).rejects.toThrow("EISDIR");
});
