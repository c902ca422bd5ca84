import { describe, expect, test } from "vitest";
import {
  sampleCounts,
  sampleDecision,
  sampleHost,
  sampleNowMs,
  sampleService,
  sampleSet,
} from "../../test/support/api/api-samples.ts";
import { berth, json, page, scriptedApi } from "../../test/support/cli/cli-harness.ts";
import { problemCatalog } from "../contracts/common/problems.ts";

const now = (): number => sampleNowMs;
const golden = (name: string): string => `../../test/golden/cli/${name}.txt`;

const pendingReason = { code: "no-room", text: "No host has room: 12 hosts lack memory" };
const services = [
  sampleService(),
  sampleService({
    name: "menu-db",
    replicas: 2,
    desiredReplicas: 8,
    settled: false,
    autoscale: { min: 2, max: 8, metrics: [] },
    counts: sampleCounts({ ready: 3, running: 4, starting: 1, pending: 2, failed: 1 }),
    reason: pendingReason,
  }),
];

describe("tables", () => {
  test("services, with the reason only when there is one", async () => {
    const api = scriptedApi(() => page(services));
    const run = await berth(["get", "services"], { ...api, now });
    expect(run.exitCode).toBe(0);
    await expect(run.stdout).toMatchFileSnapshot(golden("services"));
    const settled = await berth(["get", "services"], {
      ...scriptedApi(() => page([sampleService()])),
      now,
    });
    expect(settled.stdout).not.toContain("REASON");
  });

  test("services of several tenants, with the tenant", async () => {
    const ofTenants = (...tenants: string[]) =>
      scriptedApi(() => page(tenants.map((tenant) => sampleService({ tenant }))));
    const several = await berth(["get", "services"], { ...ofTenants("food", "shop"), now });
    expect(several.stdout.split("\n")[0]).toContain("TENANT");
    const one = await berth(["get", "services"], { ...ofTenants("food", "food"), now });
    expect(one.stdout).not.toContain("TENANT");
  });

  test("sets, wide", async () => {
    const sets = [
      sampleSet(),
      sampleSet({
        state: "pending",
        ready: false,
        host: null,
        address: null,
        containers: [],
        reason: pendingReason,
      }),
      sampleSet({
        completed: true,
        containers: sampleSet().containers.map((container) => ({ ...container, state: "exited" })),
      }),
    ];
    const run = await berth(["get", "sets", "-o", "wide"], {
      ...scriptedApi(() => page(sets)),
      now,
    });
    await expect(run.stdout).toMatchFileSnapshot(golden("sets-wide"));
  });

  test("hosts and decisions", async () => {
    const hosts = await berth(["get", "hosts"], {
      ...scriptedApi(() =>
        page([sampleHost(), sampleHost({ name: "rack2-host1", draining: true, cordoned: true })]),
      ),
      now,
    });
    await expect(hosts.stdout).toMatchFileSnapshot(golden("hosts"));
    const decisions = await berth(["get", "decisions"], {
      ...scriptedApi(() => page([sampleDecision()])),
      now,
    });
    await expect(decisions.stdout).toMatchFileSnapshot(golden("decisions"));
  });

  test("no line ends in spaces, and no cell is empty, so that awk finds its columns", async () => {
    const run = await berth(["get", "services"], { ...scriptedApi(() => page(services)), now });
    const lines = run.stdout.trimEnd().split("\n");
    for (const line of lines) expect(line).toBe(line.trimEnd());
    expect(new Set(lines.map((line) => line.split(/ {2,}/).length)).size).toBe(1);
  });

  test("colors appear only on a terminal, and never with NO_COLOR", async () => {
    // eslint-disable-next-line no-control-regex -- colour codes are control characters
    const colors = /\u001b\[\d+m/;
    const api = scriptedApi(() => page(services));
    expect((await berth(["get", "services"], { ...api, isTty: true })).stdout).toMatch(colors);
    expect((await berth(["get", "services"], { ...api, isTty: false })).stdout).not.toMatch(colors);
    expect(
      (await berth(["get", "services"], { ...api, isTty: true, colorAllowed: false })).stdout,
    ).not.toMatch(colors);
  });

  test("text from elsewhere cannot drive the terminal or break the table", async () => {
    const hostile = sampleService({
      reason: { code: "x", text: "a\u001b[2Jb\nc\u0007d" },
      settled: false,
    });
    const run = await berth(["get", "services"], { ...scriptedApi(() => page([hostile])), now });
    expect(run.stdout).toContain("a [2Jb c d");
    expect(run.stdout.trimEnd().split("\n")).toHaveLength(2);
  });

  test("an empty list says so on stderr, and gives programs an empty list", async () => {
    const api = scriptedApi(() => page([]));
    const table = await berth(["get", "hosts"], api);
    expect(table).toEqual({ exitCode: 0, stdout: "", stderr: "No hosts found.\n" });
    const programs = await berth(["get", "hosts", "-o", "json"], api);
    expect(JSON.parse(programs.stdout)).toEqual([]);
  });

  test("pages are followed up to the limit, and a cut list says so", async () => {
    const api = scriptedApi((request) =>
      page([sampleHost()], request.path.includes("cursor=") ? null : "next"),
    );
    const all = await berth(["get", "hosts", "-o", "json"], api);
    expect(JSON.parse(all.stdout)).toHaveLength(2);
    const cut = await berth(["get", "hosts", "--limit", "1"], api);
    expect(cut.stderr).toContain("Only the first 1 are shown");
  });
});

describe("errors", () => {
  const problem = (code: keyof typeof problemCatalog, more: object = {}): Response => {
    const { status, title } = problemCatalog[code];
    return json(
      {
        type: `/problems/${code}`,
        title,
        status,
        code,
        detail: `About ${code}.`,
        requestId: "req-1",
        ...more,
      },
      status,
    );
  };

  test("a problem shows each pointer and the request id, without a stack", async () => {
    const api = scriptedApi(() =>
      problem("invalid-request", {
        errors: [{ pointer: "/replicas", detail: "expected 0 to 20000" }],
      }),
    );
    const run = await berth(["scale", "menu-web", "5"], api);
    expect(run).toEqual({
      exitCode: 2,
      stdout: "",
      stderr:
        "error: About invalid-request.\n  /replicas: expected 0 to 20000\n  request id req-1\n",
    });
  });

  test.each([
    ["not-found", 3],
    ["already-exists", 4],
    ["state-conflict", 4],
    ["generation-mismatch", 4],
    ["invalid-request", 2],
    ["unsupported", 2],
    ["quota-exceeded", 1],
    ["forbidden", 1],
    ["unauthenticated", 1],
    ["internal", 1],
    ["capacity-insufficient", 1],
    ["dependency-unavailable", 5],
    ["rate-limited", 5],
  ] as const)("%s ends with exit code %i", async (code, exitCode) => {
    const run = await berth(
      ["delete", "service", "menu-web"],
      scriptedApi(() => problem(code)),
    );
    expect(run.exitCode).toBe(exitCode);
    expect(run.stderr).toContain(`About ${code}.`);
  });

  test("an unreachable API shows a remedy and exits with 5", async () => {
    const refused = Object.assign(new TypeError("fetch failed"), {
      cause: Object.assign(new Error("connect ECONNREFUSED"), { code: "ECONNREFUSED" }),
    });
    const api = scriptedApi(() => Promise.reject(refused));
    const run = await berth(["get", "services"], api);
    expect(run.exitCode).toBe(5);
    expect(run.stderr).toContain("Cannot reach the API at http://berth.test: connection refused.");
    expect(run.stderr).toContain("berth up");
    expect(api.seen).toHaveLength(1);
  });

  test("a server that is not Berth is reported as such", async () => {
    const html = (): Response =>
      new Response("<html>", { status: 200, headers: { "Content-Type": "text/html" } });
    const run = await berth(["get", "services"], scriptedApi(html));
    expect(run.exitCode).toBe(5);
    expect(run.stderr).toContain("it is not Berth's API");
  });

  test("a broken connection is tried again under the same Idempotency-Key", async () => {
    const reset = Object.assign(new TypeError("fetch failed"), {
      cause: Object.assign(new Error("reset"), { code: "ECONNRESET" }),
    });
    const api = scriptedApi((_request, count) => {
      if (count === 1) throw reset;
      return json({ service: sampleService({ replicas: 5 }), effects: ["Berth will add 2 sets."] });
    });
    const run = await berth(["scale", "menu-web", "5"], api);
    expect(run.stdout).toBe("service/menu-web scaled\n  Berth will add 2 sets.\n");
    const keys = api.seen.map(({ headers }) => headers.get("idempotency-key"));
    expect(keys).toHaveLength(2);
    expect(keys[0]).toMatch(/^[0-9a-f-]{36}$/);
    expect(keys[1]).toBe(keys[0]);
  });

  test("an internal error has no stack", async () => {
    const api = scriptedApi(() => json({ items: 5, nextCursor: null }));
    const run = await berth(["get", "services"], api);
    expect(run.exitCode).toBe(1);
    expect(run.stderr).toContain("Internal error of the command line");
    expect(run.stderr).not.toContain("    at ");
  });
});

describe("usage", () => {
  const offline = scriptedApi(() => {
    throw new Error("nothing may be sent");
  });

  test.each([
    [["frobnicate"], "unknown command 'frobnicate'"],
    [["gte"], "Did you mean get?"],
    [["get", "unicorns"], '"unicorns" is not a kind of resource'],
    [
      ["get", "services", "-o", "xml"],
      "argument 'xml' is invalid. Allowed choices are table, wide, json, yaml",
    ],
    [["get", "services", "--limit", "0"], "--limit 0"],
    [["scale", "menu-web", "+2"], "Name the total number of sets"],
    [["scale", "Menu_Web", "2"], "is not a valid service name"],
    [["scale", "../tenants", "2"], "is not a valid service name"],
    [["set", "stop", "menu-web"], "is not the id of a set"],
    [["wait", "service", "menu-web", "--for", "christmas"], "Use settled or deleted"],
    [["wait", "service", "menu-web", "--timeout", "soon"], '"soon" is not a duration'],
    [["hook", "create", "menu-web"], "Set one of --replicas, --step and --factor"],
    [["completion", "csh"], "not a supported shell"],
    [["apply", "-f", "/nonexistent.yaml"], "the file does not exist"],
  ])("%j exits with 2 and sends no request", async (argv, says) => {
    const run = await berth(argv, offline);
    expect(run.stderr).toContain(says);
    expect(run).toMatchObject({ exitCode: 2, stdout: "" });
    expect(offline.seen).toEqual([]);
  });

  test("help and version are not errors", async () => {
    for (const argv of [["--help"], ["help"], ["get", "--help"], ["--version"], ["version"]]) {
      const run = await berth(argv, offline);
      expect(run.exitCode).toBe(0);
      expect(run.stdout).not.toBe("");
    }
    expect((await berth(["version"], offline)).stdout).toBe("1.2.3\n");
    expect(JSON.parse((await berth(["version", "-o", "json"], offline)).stdout)).toEqual({
      version: "1.2.3",
    });
  });
});

describe("waiting", () => {
  const starting = sampleService({
    settled: false,
    counts: sampleCounts({ ready: 1, starting: 2 }),
  });

  test("prints a line at each change where there is no terminal, and ends when it is settled", async () => {
    const api = scriptedApi((_request, count) =>
      count < 4
        ? json({ reached: false, service: starting })
        : json({ reached: true, service: sampleService() }),
    );
    const run = await berth(["wait", "service", "menu-web"], { ...api, now });
    expect(run).toEqual({
      exitCode: 0,
      stdout: "",
      stderr: "menu-web  1/3 ready, 2 starting\nmenu-web  settled after 0 ms\n",
    });
  });

  test("ends with exit code 6 when the time is over, and says what it waits for", async () => {
    let clockMs = sampleNowMs;
    const api = scriptedApi(() => {
      clockMs += 1000;
      return json({ reached: false, service: starting });
    });
    const run = await berth(["wait", "service", "menu-web", "--timeout", "3s"], {
      ...api,
      now: () => clockMs,
    });
    expect(run.exitCode).toBe(6);
    expect(run.stderr).toContain("menu-web was not settled within 3 s: 1/3 ready, 2 starting.");
    expect(api.seen).toHaveLength(3);
  });

  test("rewrites one live line on a terminal, and wipes it", async () => {
    const api = scriptedApi((_request, count) =>
      count < 3
        ? json({ reached: false, service: starting })
        : json({ reached: true, service: sampleService() }),
    );
    const run = await berth(["wait", "service", "menu-web"], {
      ...api,
      now,
      isTty: true,
      colorAllowed: false,
    });
    expect(run.stderr).toBe(
      "\r\u001b[2Kmenu-web  1/3 ready, 2 starting  0 ms\r\u001b[2Kmenu-web  1/3 ready, 2 starting  0 ms\r\u001b[2Kmenu-web  settled after 0 ms\n",
    );
  });
});
