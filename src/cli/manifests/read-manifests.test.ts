import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { berth, json, scriptedApi } from "../../../test/support/cli/cli-harness.ts";
import { sampleService } from "../../../test/support/api/api-samples.ts";

let folder = "";
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "berth-manifests-"));
});
afterAll(async () => await rm(folder, { recursive: true }));

const whole = (name: string, more = ""): string => `name: ${name}
template:
  cpu: 0.5
  memory: 512Mi
  containers:
    - { index: 0, name: app, image: "menu:42", options: { cpu: 100, memory: 100 } }
${more}`;

const nothing = scriptedApi(() => {
  throw new Error("nothing may be sent");
});

async function applyText(text: string, api = nothing, ...args: string[]) {
  const file = path.join(folder, "menu.yaml");
  await writeFile(file, text);
  const run = await berth(["apply", "-f", file, ...args], api);
  return { ...run, stderr: run.stderr.replaceAll(`${folder}/`, "") };
}

test("every mistake of all documents is reported with its line, and nothing is sent", async () => {
  const run = await applyText(`name: Menu
template:
  cpu: lots
  memory: 512Mi
  containers: []
---
${whole("menu-web", "replicas: -1\nfrobnicate: 1")}`);
  expect(run.exitCode).toBe(2);
  expect(run.stderr).toContain("menu.yaml:1 /name: expected lower-case letters");
  expect(run.stderr).toContain("menu.yaml:3 /template/cpu:");
  expect(run.stderr).toContain("menu.yaml:5 /template/containers:");
  expect(run.stderr).toContain("menu.yaml:13 /replicas:");
  expect(run.stderr).toContain("frobnicate");
  expect(nothing.seen).toEqual([]);
});

test("a file that is not YAML, has no document, or names a service twice is refused", async () => {
  expect((await applyText("name: [")).stderr).toContain("neither YAML nor JSON");
  expect((await applyText("\n---\n# nothing\n")).stderr).toContain("has no documents");
  const twice = await applyText(`${whole("menu-web")}---\n${whole("menu-web")}`);
  expect(twice.stderr).toContain("menu-web occurs twice: at menu.yaml:1 and at menu.yaml:8");
  expect(twice.exitCode).toBe(2);
});

test("aliases that would explode are refused", async () => {
  const bomb = Array.from({ length: 9 }, (_, i) =>
    i === 0
      ? "a0: &a0 [x]"
      : `a${i}: &a${i} [${Array(9)
          .fill(`*a${i - 1}`)
          .join(",")}]`,
  ).join("\n");
  const run = await applyText(bomb);
  expect(run).toMatchObject({ exitCode: 2, stdout: "" });
});

test("a list, JSON and standard input are read as well", async () => {
  const created = scriptedApi((request) =>
    request.method === "GET"
      ? json({ status: 404, code: "not-found", detail: "none" }, 404)
      : json({ service: sampleService(request.body as object), effects: [] }),
  );
  const run = await berth(["apply", "-f", "-"], {
    ...created,
    stdin: JSON.stringify([
      { name: "a", template: templateOf() },
      { name: "b", template: templateOf() },
    ]),
  });
  expect(run).toMatchObject({ exitCode: 0, stdout: "service/a created\nservice/b created\n" });
});

function templateOf(): object {
  const options = { cpu: 100, memory: 100 };
  return {
    cpu: 1,
    memory: "64Mi",
    containers: [{ index: 0, name: "app", image: "menu:42", options }],
  };
}
