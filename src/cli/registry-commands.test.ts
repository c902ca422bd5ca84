import { expect, test } from "vitest";
import { sampleNowMs } from "../../test/support/api/api-samples.ts";
import { berth, json, page, scriptedApi } from "../../test/support/cli/cli-harness.ts";

const registry = {
  id: "reg_01jd0000000000000000000001",
  tenant: "food",
  registry: "ghcr.io",
  username: "puller",
  createdAt: "2026-01-05T10:00:00.000Z",
  updatedAt: "2026-01-05T11:00:00.000Z",
};
const password = "correct-horse-battery";
const login = ["registry", "login", "GHCR.io", "--username", "puller", "--password-stdin"];
const options = (answer: () => Response) => ({ ...scriptedApi(answer), now: () => sampleNowMs });

test("login sends the password of stdin without its line end, and prints no password", async () => {
  for (const [stdin, sent] of [
    [password, password],
    [`${password}\n`, password],
    [`${password}\r\n`, password],
    ["{\n}\n\n", "{\n}\n"],
  ] as const) {
    const api = options(() => json(registry));
    const run = await berth(login, { ...api, stdin });
    expect(run).toMatchObject({ exitCode: 0, stderr: "" });
    expect(api.seen).toMatchObject([
      {
        method: "PUT",
        path: "/v1/registries/ghcr.io",
        body: { username: "puller", password: sent },
      },
    ]);
    expect(run.stdout).toMatch(/ghcr\.io +puller +food/);
    expect(run.stdout).not.toContain(password);
  }
});

test.each([
  ["no --password-stdin", login.slice(0, -1), password, "Use --password-stdin"],
  ["an empty password", login, "\n", "Standard input is empty"],
  [
    "a name that is no registry",
    ["registry", "login", "https://ghcr.io", ...login.slice(3)],
    password,
    "is not a registry",
  ],
  ["an endless password", login, "x".repeat(2 ** 17 + 1), "too long"],
])("login refuses %s before any request", async (_fault, argv, stdin, message) => {
  const api = options(() => json(registry));
  const run = await berth(argv, { ...api, stdin });
  expect(run.exitCode).toBe(2);
  expect(run.stderr).toContain(message);
  expect(run.stderr).not.toContain(password);
  expect(api.seen).toEqual([]);
});

test("get lists registries, or shows one", async () => {
  const all = await berth(
    ["get", "registries"],
    options(() => page([registry])),
  );
  expect(all.stdout).toMatch(
    /^REGISTRY +USERNAME +TENANT +CHANGED\nghcr\.io +puller +food +60m\n$/,
  );
  const one = await berth(
    ["get", "registry", "ghcr.io", "-o", "json"],
    options(() => page([registry])),
  );
  expect(JSON.parse(one.stdout)).toEqual(registry);
  const none = await berth(
    ["get", "registries", "quay.io"],
    options(() => page([registry])),
  );
  expect([none.exitCode, none.stderr.includes('Registry "quay.io" not found')]).toEqual([3, true]);
});

test("delete deletes the credential of a registry", async () => {
  const api = options(() => new Response(null, { status: 204 }));
  const run = await berth(["delete", "registry", "localhost:5000"], api);
  expect(run.stdout).toBe("registry/localhost:5000 deleted\n");
  expect(api.seen).toMatchObject([{ method: "DELETE", path: "/v1/registries/localhost%3A5000" }]);
});
