import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { readSetCpus } from "./set-cpus.ts";

let folder: string;
let file: string;
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "berth-cpus-"));
  file = path.join(folder, "online");
  await writeFile(file, "0-3,6\n");
});
afterAll(() => rm(folder, { recursive: true }));

it("sets run on all processors but those of the switch", () => {
  expect(readSetCpus([1, 6], file)).toEqual([0, 2, 3]);
  expect(readSetCpus([], file)).toBeUndefined();
  expect(readSetCpus(undefined, "/nowhere")).toBeUndefined();
});

it("refuses processors that the machine lacks, and all of them", () => {
  expect(() => readSetCpus([1, 4, 5], file)).toThrow("names the processors 4, 5,");
  expect(() => readSetCpus([0, 1, 2, 3, 6], file)).toThrow("leaves no processor to sets");
});
