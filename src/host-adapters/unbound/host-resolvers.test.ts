import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { readHostResolvers } from "./host-resolvers.ts";

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "berth-resolvers-"));
});
afterEach(() => rm(folder, { recursive: true }));

async function read(...texts: string[]): Promise<string[]> {
  const paths = texts.map((_, index) => join(folder, String(index)));
  for (const [index, path] of paths.entries()) await writeFile(path, texts[index] ?? "");
  return readHostResolvers([...paths, join(folder, "missing")]);
}

describe("readHostResolvers", () => {
  it("reads the resolvers in order, at most three", async () => {
    const text = ["192.0.2.1", "fd00::1", "192.0.2.2", "192.0.2.3"]
      .map((address) => `nameserver ${address}\n`)
      .join("");
    expect(await read(`search example.com\n# nameserver 192.0.2.9\n${text}`)).toEqual([
      "192.0.2.1",
      "fd00::1",
      "192.0.2.2",
    ]);
  });

  it("reads the resolvers behind a stub of the host", async () => {
    expect(await read("nameserver 127.0.0.53\n", "nameserver 192.0.2.1\n")).toEqual(["192.0.2.1"]);
  });

  it("returns a loopback address only if there is no other", async () => {
    expect(await read("nameserver 127.0.0.53\nnameserver 192.0.2.1\n")).toEqual(["192.0.2.1"]);
    expect(await read("nameserver ::1\n", "")).toEqual(["::1"]);
    expect(await read("")).toEqual(["127.0.0.1"]);
  });

  it("omits what is not an address", async () => {
    const text = "nameserver fe80::1%eth0\nnameserver x\nnameserver 192.0.2.1 # main\n";
    expect(await read(text)).toEqual(["192.0.2.1"]);
  });
});
