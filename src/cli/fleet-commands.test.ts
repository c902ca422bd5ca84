import { describe, expect, test } from "vitest";
import { sampleHost, sampleNowMs, sampleSet } from "../../test/support/api/api-samples.ts";
import { berth, page, scriptedApi } from "../../test/support/cli/cli-harness.ts";

const now = (): number => sampleNowMs;

describe("top", () => {
  const used = { cpuMillis: 1_000, memoryBytes: 2 ** 30, volumeBytes: 0, rootfsBytes: 2 ** 30 };
  const hostUsing = (name: string, memoryBytes: number) => {
    const host = sampleHost({ name, id: `host_${name}` });
    const { reported } = host;
    return reported ? { ...host, reported: { ...reported, used: { ...used, memoryBytes } } } : host;
  };

  test("hosts that are nearest to a limit come first, those that never reported last", async () => {
    const { memoryBytes } = sampleHost().allocatable;
    const hosts = [
      { ...hostUsing("never", 0), reported: null },
      hostUsing("idle", 0),
      hostUsing("busy", memoryBytes * 0.97),
    ];
    const run = await berth(["top", "hosts"], { ...scriptedApi(() => page(hosts)), now });
    expect(
      run.stdout
        .split("\n")
        .slice(1, 4)
        .map((line) => line.split(" ")[0]),
    ).toEqual(["busy", "idle", "never"]);
    expect(run.stdout).toContain("97%");
    const one = await berth(["top", "hosts", "--limit", "1", "-o", "json"], {
      ...scriptedApi(() => page(hosts)),
      now,
    });
    expect(JSON.parse(one.stdout)).toMatchObject([{ name: "busy" }]);
  });

  test("sets go by what they hold of their memory", async () => {
    const { memoryBytes } = sampleSet();
    const sets = [null, 0.1, 0.9].map((share, i) =>
      sampleSet({ id: `set_${i}`, memoryUsedBytes: share === null ? null : memoryBytes * share }),
    );
    const run = await berth(["top", "sets"], { ...scriptedApi(() => page(sets)), now });
    expect(
      run.stdout
        .split("\n")
        .slice(1, 4)
        .map((line) => line.split(" ")[0]),
    ).toEqual(["set_2", "set_1", "set_0"]);
    expect(
      (
        await berth(
          ["top", "sets", "--limit", "no"],
          scriptedApi(() => page([])),
        )
      ).exitCode,
    ).toBe(2);
  });
});

describe("the credential of a host", () => {
  const replacedAt = "2026-01-02T12:00:00.000Z";
  const rotatedHost = (rotationRequestedAt: string | null) =>
    sampleHost({
      enrolledAt: "2025-01-01T00:00:00.000Z",
      credential: { replacedAt, rotationRequestedAt },
    });
  const enrolledHost = sampleHost({
    enrolledAt: replacedAt,
    credential: { replacedAt: null, rotationRequestedAt: null },
  });

  test("its rotation is requested by the name of the host", async () => {
    const host = rotatedHost(replacedAt);
    const api = scriptedApi(({ method }) =>
      method === "POST" ? Response.json(host) : page([host]),
    );
    const { exitCode, stdout } = await berth(["rotate-credential", host.name], api);
    expect(exitCode).toBe(0);
    expect(stdout).toBe(
      "Rotation requested. `berth get hosts -o wide` shows `rotating` until the agent uses the new credential.\n",
    );
    const path = `/v1/hosts/${host.id}/rotate-credential`;
    expect(api.seen.at(-1)).toMatchObject({ method: "POST", path });
    const json = await berth(["rotate-credential", host.name, "-o", "json"], api);
    expect(JSON.parse(json.stdout)).toMatchObject({ id: host.id });
  });

  test("the wide list shows its age, and a rotation that has not ended", async () => {
    for (const [host, shown] of [
      [rotatedHost(null), / 3d +disk=nvme/],
      [rotatedHost(replacedAt), / 3d, rotating +disk=nvme/],
      [enrolledHost, / 3d +disk=nvme/],
    ] as const) {
      const run = await berth(["get", "hosts", "-o", "wide"], {
        ...scriptedApi(() => page([host])),
        now,
      });
      expect(run.stdout).toContain("CREDENTIAL");
      expect(run.stdout).toMatch(shown);
    }
  });
});

test("an operator makes a host a gateway of a group, or no gateway", async () => {
  const host = sampleHost({ gatewayGroup: "edge" });
  const api = scriptedApi(({ method }) =>
    method === "PATCH" ? Response.json(host) : page([host]),
  );
  expect((await berth(["gateway", host.name, "edge"], api)).exitCode).toBe(0);
  const path = `/v1/hosts/${host.id}`;
  expect(api.seen.at(-1)).toMatchObject({ method: "PATCH", path, body: { gatewayGroup: "edge" } });
  expect((await berth(["gateway", host.name, "--none"], api)).exitCode).toBe(0);
  expect(api.seen.at(-1)).toMatchObject({ body: { gatewayGroup: null } });
  const calls = api.seen.length;
  for (const wrong of [[], ["edge", "--none"]])
    expect((await berth(["gateway", host.name, ...wrong], api)).exitCode).toBe(2);
  expect(api.seen).toHaveLength(calls);
  const shown = await berth(["get", "hosts", "-o", "wide"], {
    ...scriptedApi(() => page([host])),
    now,
  });
  expect(shown.stdout).toMatch(/GATEWAY GROUP[^]* edge /);
});

describe("adopting the volumes of a deleted host", () => {
  const deletedHostId = "host_0000000000000000000000000A";
  const host = sampleHost();
  const argv = ["adopt-volumes", host.name, deletedHostId];
  const api = () =>
    scriptedApi(({ method }) => (method === "POST" ? Response.json(host) : page([host])));

  test("needs a confirmation, and the request repeats the id", async () => {
    const refused = api();
    const no = await berth(argv, { ...refused, stdin: "no\n" });
    expect([no.exitCode, refused.seen.some(({ method }) => method === "POST")]).toEqual([2, false]);
    for (const stdin of ["yes\n", ""]) {
      const asked = api();
      const more = stdin === "" ? ["--yes"] : [];
      expect((await berth([...argv, ...more], { ...asked, stdin })).exitCode).toBe(0);
      expect(asked.seen.at(-1)).toMatchObject({
        path: `/v1/hosts/${host.id}/adopt-volumes`,
        body: { deletedHostId, confirm: deletedHostId },
      });
    }
  });
});

describe("deleting a host", () => {
  const lost = sampleHost({ state: "lost", sets: 3 });
  const api = () =>
    scriptedApi(({ method }) =>
      method === "DELETE" ? new Response(null, { status: 204 }) : page([lost]),
    );

  test("a lost host with sets needs a confirmation, and the request repeats its id", async () => {
    const refused = api();
    const no = await berth(["delete", "host", lost.name], { ...refused, stdin: "no\n" });
    expect([no.exitCode, refused.seen.some(({ method }) => method === "DELETE")]).toEqual([
      2,
      false,
    ]);
    expect(no.stderr).toContain("3 sets");
    for (const [argv, stdin] of [
      [["delete", "host", lost.name], "yes\n"],
      [["delete", "host", lost.name, "--yes"], ""],
    ] as const) {
      const asked = api();
      expect((await berth(argv, { ...asked, stdin })).exitCode).toBe(0);
      expect(asked.seen.at(-1)?.path).toBe(`/v1/hosts/${lost.id}?confirm=${lost.id}`);
    }
  });

  test("a host that is not lost needs no confirmation, because the API deletes only an empty one", async () => {
    const alive = sampleHost();
    const asked = scriptedApi(({ method }) =>
      method === "DELETE" ? new Response(null, { status: 204 }) : page([alive]),
    );
    expect((await berth(["delete", "host", alive.name], asked)).exitCode).toBe(0);
    expect(asked.seen.at(-1)?.path).toBe(`/v1/hosts/${alive.id}`);
  });
});

test.each([
  [["volume", "ls"], null],
  [["volume", "ls", "--trashed"], "trashed"],
  [["volume", "trash"], "trashed"],
])("%j lists volumes with the state %s", async (argv, state) => {
  const api = scriptedApi(() => page([]));
  const run = await berth(argv, { ...api, now });
  expect(run.exitCode).toBe(0);
  const seen = new URL(api.seen[0]?.path ?? "", "http://api");
  expect([seen.pathname, seen.searchParams.get("state")]).toEqual(["/v1/volumes", state]);
});

test("the previous name of --stabilization still works", async () => {
  const api = scriptedApi(() => Response.json({ hook: { paths: {} } }, { status: 201 }));
  await berth(["hook", "create", "web", "--replicas", "2", "--hold", "1m", "-o", "json"], api);
  expect(api.seen[0]?.body).toMatchObject({ stabilizationSeconds: 60 });
});
