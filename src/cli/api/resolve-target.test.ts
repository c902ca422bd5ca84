import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { CliSettings } from "../cli-settings.ts";
import { DEFAULT_API_URL, resolveTarget } from "./resolve-target.ts";

let folder = "";
let settings: CliSettings;

beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "berth-target-"));
  settings = {
    apiUrl: undefined,
    token: undefined,
    tokenFile: undefined,
    tenant: undefined,
    context: undefined,
    configFile: path.join(folder, "config.json"),
    dataDir: path.join(folder, "data-of-nobody"),
  };
  const contexts = {
    lab: { apiUrl: "https://lab.example", token: "lab-token", tenant: "food" },
    prod: { apiUrl: "https://prod.example", tokenFile: path.join(folder, "prod-token") },
  };
  await writeFile(settings.configFile, JSON.stringify({ current: "lab", contexts }));
  await writeFile(path.join(folder, "prod-token"), "prod-token\n");
  await writeFile(path.join(folder, "admin-token"), "admin-token\n");
  await writeFile(
    path.join(folder, "api.json"),
    JSON.stringify({
      apiUrl: "http://127.0.0.1:4242",
      adminTokenFile: path.join(folder, "admin-token"),
    }),
  );
});
afterAll(async () => await rm(folder, { recursive: true }));

const withoutContexts = (): CliSettings => ({
  ...settings,
  configFile: path.join(folder, "none.json"),
});

describe("where requests go, and as whom", () => {
  test("the current context, or the one that is named", async () => {
    expect(await resolveTarget({}, settings)).toMatchObject({
      apiUrl: "https://lab.example",
      token: "lab-token",
      tenant: "food",
    });
    expect(await resolveTarget({ context: "prod" }, settings)).toMatchObject({
      apiUrl: "https://prod.example",
      token: "prod-token",
      tenant: undefined,
    });
  });

  test("a Berth in the data directory is found automatically", async () => {
    const found = await resolveTarget({}, { ...withoutContexts(), dataDir: folder });
    expect(found).toMatchObject({ apiUrl: "http://127.0.0.1:4242", token: "admin-token" });
  });

  test("is the default URL without a token if nothing is configured", async () => {
    expect(await resolveTarget({}, withoutContexts())).toMatchObject({
      apiUrl: DEFAULT_API_URL,
      token: undefined,
    });
  });

  test("flags win over the environment, that over contexts", async () => {
    const env = { ...settings, apiUrl: "https://lab.example", token: "env-token", tenant: "env" };
    expect(await resolveTarget({}, env)).toMatchObject({ token: "env-token", tenant: "env" });
    const flags = { tokenFile: path.join(folder, "prod-token"), tenant: "flag" };
    expect(await resolveTarget(flags, env)).toMatchObject({ token: "prod-token", tenant: "flag" });
  });

  test("a token of a context or of a local Berth is never sent to another URL", async () => {
    const elsewhere = { apiUrl: "https://elsewhere.example" };
    expect((await resolveTarget(elsewhere, settings)).token).toBeUndefined();
    const local = await resolveTarget(elsewhere, { ...withoutContexts(), dataDir: folder });
    expect(local.token).toBeUndefined();
  });

  test.each([
    [{ context: "nowhere" }, "not found in"],
    [{ apiUrl: "ftp://x" }, "not an http or https URL"],
    [{ tokenFile: "/nonexistent/token" }, "is missing, unreadable or empty"],
  ])("%j is a usage error", async (flags, says) => {
    await expect(resolveTarget(flags, settings)).rejects.toMatchObject({
      exitCode: 2,
      message: expect.stringContaining(says) as string,
    });
  });

  test("an invalid file of contexts is reported with its faults", async () => {
    const configFile = path.join(folder, "broken.json");
    await writeFile(configFile, '{"contexts":{"a":{"apiUrl":"nonsense"}}}');
    await expect(resolveTarget({}, { ...settings, configFile })).rejects.toMatchObject({
      exitCode: 2,
      hints: expect.arrayContaining([expect.stringContaining("contexts.a.apiUrl")]) as string[],
    });
  });
});
