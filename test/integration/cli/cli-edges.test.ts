import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { newId } from "../../../src/lib/ids.ts";
import { berth as runBerth } from "../../support/cli/cli-harness.ts";
import { createTestApi, type TestApi } from "../../support/api/test-api.ts";

/** Tests unusual command lines against the real API, without hosts. */
let api: TestApi;
let folder = "";
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "berth-cli-"));
  api = await createTestApi();
});
afterAll(async () => {
  await api.close();
  await rm(folder, { recursive: true });
});

const berth = (...argv: string[]) =>
  runBerth(argv, {
    fetch: async (url, init) => await api.api.app.request(url, init),
    settings: { token: api.adminToken },
  });

async function fileOf(name: string, more: object = {}): Promise<string> {
  const options = { cpu: 100, memory: 100 };
  const containers = [{ index: 0, name: "app", image: "menu:1", options }];
  const file = path.join(folder, `${name}.json`);
  const service = { name, replicas: 0, template: { cpu: 1, memory: "64Mi", containers }, ...more };
  await writeFile(file, JSON.stringify(service));
  return file;
}

test("apply takes several files, or none of them", async () => {
  const [one, two] = [await fileOf("one"), await fileOf("two")];
  const { stdout, exitCode } = await berth("apply", "-f", one, "-f", two);
  expect(exitCode).toBe(0);
  expect(stdout).toMatch(/^service\/one created\n.*service\/two created\n/s);
  expect((await berth("plan", "-f", one, "-f", two)).stdout).toMatch(/^one: .*\n\ntwo: /s);
  const twice = await berth("apply", "-f", one, "-f", one);
  expect(twice).toMatchObject({ exitCode: 2, stdout: "" });
});

test("a service without sets is deleted before the CLI waits for the deletion", async () => {
  await berth("apply", "-f", await fileOf("short"));
  const deleted = await berth("delete", "service", "short", "--wait");
  expect(deleted.exitCode).toBe(0);
  expect(deleted.stderr).toContain("short  deleted after");
  expect((await berth("wait", "service", "short", "--for", "deleted")).exitCode).toBe(0);
  expect((await berth("wait", "service", "short")).exitCode).toBe(3);
});

test("a plan refuses what scaling would refuse", async () => {
  await berth("apply", "-f", await fileOf("bound", { autoscale: { min: 0, max: 3 } }));
  for (const command of [["scale"], ["plan", "scale"]]) {
    const { exitCode, stderr } = await berth(...command, "bound", "4");
    expect(exitCode).toBe(2);
    expect(stderr).toContain("autoscale.max (3)");
  }
  expect((await berth("plan", "scale", "bound", "3")).exitCode).toBe(0);
});

test.each([
  ["services", "--state", "ready"],
  ["hosts", "--service", "one"],
  ["sets", "--kind", "set-running"],
])("a filter that does not apply to the resource is refused: get %s %s %s", async (...argv) => {
  const { exitCode, stderr } = await berth("get", ...argv);
  expect(exitCode).toBe(2);
  expect(stderr).toContain(`${argv[1]} does not apply to ${argv[0]}`);
});

test.each(["volumes", "decisions", "demands", "pools", "tenants"])(
  "a name that does not exist ends with exit code 3: get %s nope",
  async (kind) => {
    const { exitCode, stdout } = await berth("get", kind, "nope");
    expect(stdout).toBe("");
    expect(exitCode).toBe(3);
  },
);

test("the CLI requests a log once, and shows the API's answer if no agent sends the log", async () => {
  const setId = newId("set");
  const asked: string[] = [];
  const run = await runBerth(["logs", setId], {
    fetch: async (url) => {
      asked.push(new URL(url).pathname.replace(setId, "SET"));
      if (!url.includes("/logs"))
        return Response.json({ id: setId, containers: [{ name: "app" }], host: { name: "h1" } });
      const detail = "The host's agent did not answer in time.";
      const problem = {
        title: "Unavailable",
        code: "dependency-unavailable",
        detail,
        retryAfterMs: 1,
      };
      return Response.json(problem, { status: 503 });
    },
  });
  expect(asked).toEqual(["/v1/sets/SET", "/v1/sets/SET/containers/app/logs"]);
  expect(run).toMatchObject({ exitCode: 5, stdout: "" });
  expect(run.stderr).toContain("did not answer in time");
});
