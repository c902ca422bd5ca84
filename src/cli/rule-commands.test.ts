import { expect, test } from "vitest";
import { sampleNowMs } from "../../test/support/api/api-samples.ts";
import { berth, json, page, scriptedApi } from "../../test/support/cli/cli-harness.ts";

const rule = {
  id: "rule_01jd0000000000000000000001",
  tenant: "food",
  network: "default",
  name: "no-web",
  generation: 3,
  direction: "ingress",
  action: "deny",
  protocol: "tcp",
  ports: ["80", "8000-8099"],
  service: "db",
  peer: { service: "web" },
  priority: 1000,
  createdAt: "2026-01-05T10:00:00.000Z",
  updatedAt: "2026-01-05T10:00:00.000Z",
};
const scripted = (answer: () => Response) => ({ ...scriptedApi(answer), now: () => sampleNowMs });
const required = ["--direction", "ingress", "--action", "deny", "--peer", "any"];

test("create sends one rule, and prints it", async () => {
  const api = scripted(() => json({ rules: [rule] }));
  const flags = ["--direction", "ingress", "--action", "deny", "--service", "db"];
  const ports = ["--protocol", "tcp", "--port", "80,443", "--port", "8000-8099"];
  const rest = ["--peer", "service/web", "--priority", "7", "--end-connections"];
  const run = await berth(["rule", "create", "no-web", ...flags, ...ports, ...rest], api);
  expect(run).toMatchObject({ exitCode: 0, stderr: "" });
  expect(run.stdout).toMatch(
    /no-web +default +1000 +deny +ingress +db +service web +tcp 80,8000-8099/,
  );
  expect(api.seen).toMatchObject([
    {
      method: "POST",
      path: "/v1/rules",
      body: {
        rules: [
          {
            name: "no-web",
            network: "default",
            direction: "ingress",
            action: "deny",
            protocol: "tcp",
            ports: ["80", "443", "8000-8099"],
            service: "db",
            peer: { service: "web" },
            priority: 7,
          },
        ],
        endConnections: true,
      },
    },
  ]);
});

test.each([
  ["any", { any: true }],
  ["network", { network: "blue" }],
  ["network/red", { network: "red" }],
  ["10.0.0.0/8", { cidr: "10.0.0.0/8" }],
  ["fd00::9", { cidr: "fd00::9" }],
])("create reads the peer %s", async (peer, expected) => {
  const api = scripted(() => json({ rules: [rule] }));
  const flags = ["--network", "blue", "--direction", "egress", "--action", "allow", "--peer", peer];
  await berth(["rule", "create", "a", ...flags], api);
  expect(api.seen).toMatchObject([{ body: { rules: [{ network: "blue", peer: expected }] } }]);
});

test("create sends the rules of a file in requests of 500", async () => {
  const rules = Array.from({ length: 1_001 }, (_, place) => ({ name: `r-${place}` }));
  const api = { ...scripted(() => json({ rules: [rule] })), stdin: JSON.stringify(rules) };
  const run = await berth(["rule", "create", "--file", "-"], api);
  expect(run.exitCode).toBe(0);
  const sizes = api.seen.map(({ body }) => (body as { rules: unknown[] }).rules.length);
  expect(sizes).toEqual([500, 500, 1]);
});

test.each([
  ["a name with a dot", ["create", "a.b", ...required], "not a valid rule name"],
  ["no name", ["create", ...required], "neither a rule nor a --file"],
  ["no action", ["create", "a", "--direction", "ingress", "--peer", "any"], "--action"],
  [
    "an unknown peer",
    ["create", "a", ...required.slice(0, 4), "--peer", "web"],
    '"web" is not a peer. Use any, network, service/NAME, or addresses such as 10.0.0.0/8.',
  ],
  ["an unknown peer in an update", ["update", "a", "--peer", "web"], "is not a peer"],
  [
    "a file and an option of a rule",
    ["create", "--file", "rules.yaml", "--network", "blue"],
    "Give either --file or the options of one rule.",
  ],
  ["a file and a name", ["create", "a", "--file", "rules.yaml"], "Give either --file"],
  ["a priority of words", ["create", "a", ...required, "--priority", "high"], "--priority high"],
  ["no change", ["update", "a"], "names no change"],
  [
    "one service and all",
    ["update", "a", "--service", "db", "--all-services"],
    "either --service or --all-services",
  ],
  [
    "a port of words",
    ["explain", "web", "db", "http"],
    '"http" is not a port. Use 5432, 53/udp or icmp.',
  ],
  ["an unknown protocol", ["explain", "web", "db", "80/sctp"], "is not a port"],
])("refuses %s before any request", async (_fault, argv, message) => {
  const api = scripted(() => json({}));
  const run = await berth(["rule", ...argv], api);
  expect(run.exitCode).toBe(2);
  expect(run.stderr).toContain(message);
  expect(api.seen).toEqual([]);
});

test("update sends only the changes, for the generation that it has read", async () => {
  const api = scripted(() => json(rule));
  await berth(["rule", "update", "no-web", "--all-services", "--port", "81"], api);
  expect(api.seen).toMatchObject([
    { method: "GET", path: "/v1/rules/no-web" },
    {
      method: "PATCH",
      path: "/v1/rules/no-web",
      body: { service: null, ports: ["81"], endConnections: false },
    },
  ]);
  expect(Object.keys(api.seen[1]?.body as object)).toHaveLength(3);
});

test("update reads the peer `network` as the network of the rule", async () => {
  const api = scripted(() => json({ ...rule, network: "blue" }));
  const run = await berth(["rule", "update", "no-web", "--peer", "network"], api);
  expect(run).toMatchObject({ exitCode: 0, stderr: "" });
  expect(api.seen).toMatchObject([{ method: "GET" }, { body: { peer: { network: "blue" } } }]);
});

test("the help of create has defaults, and that of update has none", async () => {
  const help = async (operation: string) => {
    const run = await berth(
      ["rule", operation, "--help"],
      scripted(() => json({})),
    );
    return run.stdout.replaceAll(/\s+/g, " ");
  };
  expect(await help("create")).toContain("(default: all sets)");
  expect(await help("update")).not.toContain("(default:");
});

test("delete deletes each named rule", async () => {
  const api = scripted(() => new Response(null, { status: 204 }));
  const run = await berth(["rule", "delete", "a", "b", "--end-connections"], api);
  expect(run.stdout).toBe("rule/a deleted\nrule/b deleted\n");
  expect(api.seen.map(({ method, path }) => `${method} ${path}`)).toEqual([
    "DELETE /v1/rules/a?endConnections=true",
    "DELETE /v1/rules/b?endConnections=true",
  ]);
});

test("get lists rules of a network, and shows one", async () => {
  const api = scripted(() => page([rule]));
  await berth(["get", "rules", "--network", "default", "--service", "db"], api);
  expect(api.seen).toMatchObject([{ path: "/v1/rules?network=default&service=db&limit=500" }]);
  const one = await berth(
    ["-o", "json", "get", "rules", "no-web"],
    scripted(() => json(rule)),
  );
  expect(JSON.parse(one.stdout)).toEqual(rule);
});

test.each(["rule", "rules"])("%s explain prints which rules decide", async (noun) => {
  const text = "Denied: 5432/tcp.";
  const api = scripted(() => json({ verdict: "denied", paths: [], notes: [], text }));
  const run = await berth([noun, "explain", "web", "10.0.0.9", "5432"], api);
  expect(run.stdout).toBe(`${text}\n`);
  expect(api.seen).toMatchObject([
    { method: "GET", path: "/v1/rules/explain?from=web&to=10.0.0.9&protocol=tcp&port=5432" },
  ]);
});
