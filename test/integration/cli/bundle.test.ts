import { execFile } from "node:child_process";
import { appendFile, cp, mkdtemp, readdir, readFile, rm, symlink, utimes } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test } from "vitest";

const repository = fileURLToPath(new URL("../../..", import.meta.url));
let checkout: string;

/** A copy of the parts of a checkout from which `bin/berth` starts, without a build. */
beforeAll(async () => {
  checkout = await mkdtemp(path.join(tmpdir(), "berth-checkout-"));
  for (const part of ["bin", "src", "package.json", "package-lock.json"])
    await cp(path.join(repository, part), path.join(checkout, part), { recursive: true });
  await symlink(path.join(repository, "node_modules"), path.join(checkout, "node_modules"));
});
afterAll(async () => await rm(checkout, { recursive: true, force: true }));

async function berth(...args: string[]): Promise<string> {
  const { stdout } = await promisify(execFile)(path.join(checkout, "bin/berth"), args);
  return stdout.trim();
}

async function readEntry(): Promise<string> {
  const manifest = await readFile(path.join(checkout, "dist/berth/manifest.json"), "utf8");
  return (JSON.parse(manifest) as { entry: string }).entry;
}

test("a checkout builds the bundle at the first start and after a change, and not otherwise", async () => {
  const cli = path.join(checkout, "src/main/cli.ts");
  const { version } = JSON.parse(await readFile(path.join(checkout, "package.json"), "utf8")) as {
    version: string;
  };
  expect(await berth("--version")).toBe(version);
  const first = await readFile(path.join(checkout, "dist/berth/manifest.json"), "utf8");

  await utimes(cli, new Date(), new Date());
  expect(await berth("--version")).toBe(version);
  expect(await readFile(path.join(checkout, "dist/berth/manifest.json"), "utf8")).toBe(first);

  const entry = await readEntry();
  await appendFile(cli, 'process.stdout.write("changed\\n");\n');
  expect(await berth("--version")).toBe(`${version}\nchanged`);
  expect(await readEntry()).not.toBe(entry);
});

/** The text of a file of the bundle and of all files that it imports statically. */
async function readWithImports(file: string, seen = new Set<string>()): Promise<string> {
  if (seen.has(file)) return "";
  seen.add(file);
  const text = await readFile(path.join(checkout, "dist/berth", file), "utf8");
  const imported = [...text.matchAll(/(?:from|import) "\.\/([\w-]+\.js)"/g)];
  const parts = await Promise.all(imported.map(([, name = ""]) => readWithImports(name, seen)));
  return [text, ...parts].join("\n");
}

test("a short command loads neither zod nor yaml, which take longer than the rest", async () => {
  await berth("--version");
  const files = await readdir(path.join(checkout, "dist/berth"));
  for (const command of ["cli", "get", "scale", "explain", "events", "logs", "wait"]) {
    const loaded = await Promise.all(
      files.filter((file) => file.startsWith(`${command}-`)).map((file) => readWithImports(file)),
    );
    expect(loaded.join("\n")).toContain("// src/cli/");
    expect(loaded.join("\n")).not.toMatch(/^\/\/ node_modules\/(?:zod|yaml|undici)\//m);
  }
});

test("an installation without sources and esbuild uses the bundle of its build", async () => {
  await berth("--version");
  await rm(path.join(checkout, "src"), { recursive: true });
  await rm(path.join(checkout, "node_modules"));
  expect(await berth("version", "-o", "json")).toContain("version");
  expect(await berth("get", "--help")).toContain("Usage: berth get");
});

test("the command explains how to build if there is neither a bundle nor esbuild", async () => {
  await rm(path.join(checkout, "dist"), { recursive: true });
  await expect(berth("--version")).rejects.toMatchObject({
    code: 1,
    stderr: expect.stringContaining("Run `npm ci && npm run build`") as string,
  });
});
