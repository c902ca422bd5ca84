import { expect, test } from "vitest";
import { sampleNowMs } from "../../test/support/api/api-samples.ts";
import { berth, json, page, scriptedApi } from "../../test/support/cli/cli-harness.ts";

const network = {
  id: "net_01jd0000000000000000000001",
  tenant: "food",
  name: "web",
  generation: 3,
  vni: 4097,
  subnets: [
    {
      id: "sub_01jd0000000000000000000001",
      family: 4,
      cidr: "10.64.0.0/16",
      gateway: "10.64.0.1",
      pools: [],
      reservations: ["10.64.0.9"],
      addresses: { usable: 65_532, assigned: 3, quarantined: 1, free: 65_528 },
    },
  ],
  createdAt: "2026-01-05T10:00:00.000Z",
};
const options = (answer: () => Response) => ({ ...scriptedApi(answer), now: () => sampleNowMs });

test("create sends each address with the subnet of its family", async () => {
  const api = options(() => json(network));
  const flags = ["--subnet", "10.64.0.0/16", "--subnet", "fd00::/64", "--gateway", "fd00::ff"];
  const ranges = ["--pool", "10.64.1.0/24", "--reserve", "10.64.1.9", "--reserve", "fd00::9"];
  const run = await berth(["network", "create", "web", ...flags, ...ranges], api);
  expect(run).toMatchObject({ exitCode: 0, stderr: "" });
  expect(run.stdout).toMatch(/web +4097 +10\.64\.0\.0\/16 +3 +65528/);
  expect(api.seen).toMatchObject([
    {
      method: "POST",
      path: "/v1/networks",
      body: {
        name: "web",
        subnets: [
          { cidr: "10.64.0.0/16", pools: ["10.64.1.0/24"], reservations: ["10.64.1.9"] },
          { cidr: "fd00::/64", gateway: "fd00::ff", reservations: ["fd00::9"] },
        ],
      },
    },
  ]);
});

test.each([
  ["a name with a dot", ["network", "create", "a.b", "--subnet", "10.0.0.0/24"], "not a valid"],
  [
    "an address without a subnet of its family",
    ["network", "create", "web", "--subnet", "10.0.0.0/24", "--reserve", "fd00::9"],
    "fd00::9 is an IPv6 address, but no --subnet is. Add an IPv6 --subnet.",
  ],
  [
    "two gateways of one subnet",
    [
      "network",
      "create",
      "web",
      "--subnet",
      "10.0.0.0/24",
      "--gateway",
      "10.0.0.2",
      "--gateway",
      "10.0.0.3",
    ],
    "more than one --gateway",
  ],
  ["no subnet", ["network", "create", "web"], "--subnet"],
])("refuses %s before any request", async (_fault, argv, message) => {
  const api = options(() => json(network));
  const run = await berth(argv, api);
  expect(run.exitCode).toBe(2);
  expect(run.stderr).toContain(message);
  expect(api.seen).toEqual([]);
});

test("update changes only the generation that it has read", async () => {
  const api = options(() => json(network));
  await berth(["network", "update", "web", "--subnet", "10.64.0.0/16"], api);
  expect(api.seen.map(({ method, path }) => `${method} ${path}`)).toEqual([
    "GET /v1/networks/web",
    "PATCH /v1/networks/web",
  ]);
  expect(api.seen[1]).toMatchObject({ body: { subnets: [{ cidr: "10.64.0.0/16" }] } });
});

test("addresses lists the addresses of a network", async () => {
  const address = {
    address: "10.64.0.2",
    mac: "0a:00:0a:40:00:02",
    setId: "set_01jd0000000000000000000001",
    service: "menu-web",
    networkIndex: 0,
    state: "assigned",
    quarantinedAt: null,
  };
  const ofService = { ...address, address: "10.64.0.9", setId: null, networkIndex: null };
  const run = await berth(
    ["network", "addresses", "web"],
    options(() => page([address, ofService])),
  );
  expect(run.stdout).toMatch(/10\.64\.0\.2 +assigned +set_01jd0000000000000000000001 +menu-web/);
  expect(run.stdout).toMatch(/10\.64\.0\.9 +assigned +-? *menu-web/);
});

test("get shows one network, and delete deletes it", async () => {
  const one = await berth(
    ["-o", "json", "get", "networks", "web"],
    options(() => page([network])),
  );
  expect(JSON.parse(one.stdout)).toEqual(network);
  const api = options(() => new Response(null, { status: 204 }));
  const deleted = await berth(["network", "delete", "web"], api);
  expect(deleted.stdout).toBe("network/web deleted\n");
  expect(api.seen).toMatchObject([{ method: "DELETE", path: "/v1/networks/web" }]);
});
