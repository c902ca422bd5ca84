import { expect, test } from "vitest";
import type { EndpointList } from "../contracts/api/endpoints.ts";
import { sampleNowMs } from "../../test/support/api/api-samples.ts";
import { berth, json, scriptedApi } from "../../test/support/cli/cli-harness.ts";

const host = { id: "host_01jd0000000000000000000001", name: "h1" };
const list: EndpointList = {
  service: "web",
  version: "0123456789abcdef",
  total: 1_001,
  endpoints: [
    {
      setId: "set_01jd0000000000000000000001",
      host,
      reach: "network",
      interfaces: [
        { network: "front", addresses: ["10.1.0.2", "fd01::2"] },
        { network: "back", addresses: ["10.2.0.2"] },
      ],
    },
    {
      setId: "set_01jd0000000000000000000002",
      host,
      reach: "host",
      interfaces: [{ network: null, addresses: ["172.17.0.2"] }],
    },
  ],
};
const options = () => ({ ...scriptedApi(() => json(list)), now: () => sampleNowMs });

test("get endpoints shows where each set is reachable, and says how many are not shown", async () => {
  const api = options();
  const run = await berth(["get", "endpoints", "web"], api);
  expect(run.stdout).toMatch(
    /0001 +h1 +network +10\.1\.0\.2, fd01::2 \(front\) +10\.2\.0\.2 \(back\)/,
  );
  expect(run.stdout).toMatch(/0002 +h1 +host +172\.17\.0\.2 \(bridge\)/);
  expect(run.stderr).toBe("Only the first 2 of 1001 are shown.\n");
  expect(api.seen).toMatchObject([{ method: "GET", path: "/v1/services/web/endpoints" }]);
});

test("get endpoints prints the list with its version for programs", async () => {
  const run = await berth(["-o", "json", "get", "ep", "web"], options());
  expect(JSON.parse(run.stdout)).toEqual(list);
});

test("get endpoints needs the name of a service", async () => {
  const api = options();
  const run = await berth(["get", "endpoints"], api);
  expect(run).toMatchObject({ exitCode: 2 });
  expect(run.stderr).toContain("berth get endpoints SERVICE");
  expect(api.seen).toEqual([]);
});
