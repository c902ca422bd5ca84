import { sql } from "drizzle-orm";
import { afterAll, beforeAll, expect, it } from "vitest";
import {
  type Network,
  VNI_MIN,
  NETWORKS_PER_TENANT_MAX,
} from "../../../src/contracts/api/networks.ts";
import { newId } from "../../../src/lib/ids.ts";
import { createTestApi, serviceBody, type TestApi } from "../../support/api/test-api.ts";

let test: TestApi;
let food: string;
let toys: string;

beforeAll(async () => {
  test = await createTestApi();
  food = await test.tokenOf("tenant", "food");
  toys = await test.tokenOf("tenant", "toys");
});
afterAll(() => test.close());

interface Answer {
  status: number;
  body: Network & { items: Network[]; errors: { pointer: string }[]; code: string };
  etag: string | null;
}

async function send(
  method: string,
  path: string,
  body?: unknown,
  { token = food, headers = {} }: { token?: string; headers?: Record<string, string> } = {},
): Promise<Answer> {
  const response = await test.request(method, path, {
    token,
    headers,
    ...(body === undefined ? {} : { body }),
  });
  const text = await response.text();
  const etag = response.headers.get("etag");
  return {
    status: response.status,
    body: (text === "" ? null : JSON.parse(text)) as Answer["body"],
    etag,
  };
}
const create = (name: string, subnets: unknown[], token = food) =>
  send("POST", "/v1/networks", { name, subnets }, { token });
const patch = (name: string, subnets: unknown[], headers: Record<string, string> = {}) =>
  send("PATCH", `/v1/networks/${name}`, { subnets }, { headers });

/** Stores an address of a subnet, as the commit of a placement does. */
async function assignAddress(networkName: string, address: string): Promise<string> {
  const setId = newId("set");
  await test.ctx.db.execute(
    sql`with added as (
          insert into addresses (subnet_id, address, set_id, network_index, mac)
          select b.id, ${address}, ${setId}, 0, '0a:00:00:00:00:00' from subnets b join networks n on n.id = b.network_id
          where n.name = ${networkName} and b.family = family(${address}::inet) returning subnet_id)
        update subnets set unavailable = unavailable + 1 where id in (select subnet_id from added)`,
  );
  return setId;
}
const quarantine = (setId: string) =>
  test.ctx.db.execute(
    sql`update addresses set state = 'quarantined', quarantined_at = now() where set_id = ${setId}`,
  );

it("creates a network with two subnets, whose unusable addresses are not free", async () => {
  const made = await create("dual", [
    { cidr: "10.8.0.0/24", reservations: ["10.8.0.10-10.8.0.19"] },
    { cidr: "fd00:8::/64", gateway: "fd00:8::ff" },
  ]);
  expect(made).toMatchObject({ status: 201, etag: '"1"' });
  expect(made.body.vni).toBeGreaterThanOrEqual(VNI_MIN);
  expect(made.body.subnets).toMatchObject([
    {
      family: 4,
      cidr: "10.8.0.0/24",
      gateway: "10.8.0.1",
      pools: [],
      reservations: ["10.8.0.10-10.8.0.19"],
      addresses: { usable: 243, assigned: 0, quarantined: 0, free: 243 },
    },
    { family: 6, gateway: "fd00:8::ff", addresses: { usable: 2 ** 32 - 2 } },
  ]);
  expect((await send("GET", "/v1/networks/dual")).body).toEqual(made.body);
});

it("gives each tenant a default network on first use, and creates it once", async () => {
  const reads = await Promise.all(
    [1, 2, 3, 4].map(() => send("GET", "/v1/networks", undefined, { token: toys })),
  );
  for (const { body } of reads)
    expect(body.items).toMatchObject([
      {
        name: "default",
        tenant: "toys",
        subnets: [{ cidr: "10.64.0.0/16", gateway: "10.64.0.1" }],
      },
    ]);
  const own = await send("GET", "/v1/networks/default");
  expect(own.body.subnets[0]?.cidr).toBe("10.64.0.0/16");
  expect(own.body.vni).not.toBe(reads[0]?.body.items[0]?.vni);
  const { body } = await send("GET", "/v1/events?kind=network-created", undefined, { token: toys });
  expect(body.items).toMatchObject([{ text: "Network default created with 10.64.0.0/16." }]);
});

it("names each fault with a pointer", async () => {
  const answer = await create("bad", [
    { cidr: "10.0.0.7/24" },
    { cidr: "fd00::/64", pools: ["::1"] },
  ]);
  expect(answer).toMatchObject({ status: 422, body: { code: "invalid-request" } });
  expect(answer.body.errors.map(({ pointer }) => pointer)).toEqual([
    "/subnets/0/cidr",
    "/subnets/1/pools/0",
  ]);
});

it("refuses a name that the tenant has, and permits equal subnets elsewhere", async () => {
  const subnets = [{ cidr: "10.9.0.0/24" }];
  expect((await create("web", subnets)).status).toBe(201);
  expect(await create("web", subnets)).toMatchObject({
    status: 409,
    body: { code: "already-exists", detail: "A network of this name already exists." },
  });
  expect((await create("web-2", subnets)).status).toBe(201);
  expect((await create("web", subnets, toys)).status).toBe(201);
});

it("creates one network for an Idempotency-Key", async () => {
  const body = { name: "once", subnets: [{ cidr: "10.7.0.0/24" }] };
  const options = { headers: { "Idempotency-Key": "network-once" } };
  const first = await send("POST", "/v1/networks", body, options);
  expect(await send("POST", "/v1/networks", body, options)).toEqual(first);
});

it("changes the subnets at the generation that the caller read", async () => {
  const { body } = await create("changing", [{ cidr: "10.6.0.0/24" }]);
  const wider = [{ cidr: "10.6.0.0/24", reservations: ["10.6.0.200/29"] }, { cidr: "fd06::/64" }];
  expect(await patch("changing", wider, { "If-Match": '"7"' })).toMatchObject({
    status: 412,
    body: { code: "generation-mismatch" },
  });
  const changed = await patch("changing", wider, { "If-Match": '"1"' });
  expect(changed).toMatchObject({ status: 200, etag: '"2"' });
  expect(changed.body.subnets[0]).toMatchObject({
    id: body.subnets[0]?.id,
    reservations: ["10.6.0.200-10.6.0.207"],
    addresses: { usable: 245 },
  });
  const other = await patch("changing", [{ cidr: "10.5.0.0/24" }]);
  expect(other.body.subnets).toMatchObject([{ cidr: "10.5.0.0/24" }]);
  expect(other.body.subnets[0]?.id).not.toBe(body.subnets[0]?.id);
});

it("excludes no address and changes no gateway of a set, but ends quarantines", async () => {
  await create("used", [{ cidr: "10.4.0.0/24" }, { cidr: "fd04::/64" }]);
  const setId = await assignAddress("used", "10.4.0.9");
  const both = (members: object) => [{ cidr: "10.4.0.0/24", ...members }, { cidr: "fd04::/64" }];
  const excluded = `Set ${setId} has the address 10.4.0.9 of subnet 10.4.0.0/24, which this change excludes. Delete the set first, or keep the address in the pools and out of the reservations.`;
  const gateway = `Subnet 10.4.0.0/24 has sets, so its gateway cannot change. Delete its sets first: set ${setId} has the address 10.4.0.9.`;
  for (const [subnets, pointer, text] of [
    [both({ reservations: ["10.4.0.9"] }), "/subnets/0", excluded],
    [both({ pools: ["10.4.0.10-10.4.0.20"] }), "/subnets/0", excluded],
    [both({ gateway: "10.4.0.254" }), "/subnets/0/gateway", gateway],
    [[{ cidr: "fd04::/64" }], "/subnets", excluded],
    [[{ cidr: "10.4.0.0/25" }], "/subnets", excluded],
  ] as const) {
    const refused = await patch("used", subnets as unknown[]);
    expect(refused).toMatchObject({ status: 409, body: { code: "state-conflict", detail: text } });
    expect(refused.body.errors).toEqual([{ pointer, detail: text }]);
  }
  expect((await patch("used", both({ reservations: ["10.4.0.10"] }))).status).toBe(200);
  await quarantine(setId);
  const { body } = await send("GET", "/v1/networks/used");
  expect(body.subnets[0]?.addresses).toMatchObject({ assigned: 0, quarantined: 1, free: 251 });
  const changed = await patch("used", both({ reservations: ["10.4.0.9"] }));
  expect(changed.body.subnets[0]?.addresses).toEqual({
    usable: 252,
    assigned: 0,
    quarantined: 0,
    free: 252,
  });
});

it("lists addresses in their order, in pages", async () => {
  await create("listed", [{ cidr: "10.3.0.0/16" }, { cidr: "fd03::/64" }]);
  const addresses = ["10.3.0.9", "10.3.1.2", "10.3.200.1", "fd03::a", "fd03::1:0"];
  for (const address of addresses.toReversed()) await assignAddress("listed", address);
  const seen: string[] = [];
  let cursor = "";
  do {
    const path = `/v1/networks/listed/addresses?limit=2${cursor}`;
    const { body } = (await send("GET", path)) as unknown as {
      body: { items: { address: string }[]; nextCursor: string | null };
    };
    seen.push(...body.items.map(({ address }) => address));
    cursor = body.nextCursor === null ? "" : `&cursor=${body.nextCursor}`;
  } while (cursor !== "");
  expect(seen).toEqual(addresses);
  expect(await send("GET", "/v1/networks/listed/addresses?cursor=YWJj")).toMatchObject({
    status: 422,
  });
});

it("gets no second subnet while it has sets", async () => {
  await create("single", [{ cidr: "10.6.0.0/24" }]);
  const setId = await assignAddress("single", "10.6.0.2");
  const refused = await patch("single", [{ cidr: "10.6.0.0/24" }, { cidr: "fd06::/64" }]);
  const text = `The network has sets, such as ${setId}, so it gets no new subnet. Create another network with both subnets.`;
  expect(refused).toMatchObject({ status: 409, body: { code: "state-conflict", detail: text } });
  expect(refused.body.errors).toEqual([{ pointer: "/subnets/1", detail: text }]);
});

it("deletes no network that a set or a service uses", async () => {
  await create("doomed", [{ cidr: "10.2.0.0/24" }]);
  const setId = await assignAddress("doomed", "10.2.0.2");
  const remove = (name: string, token = food) =>
    send("DELETE", `/v1/networks/${name}`, undefined, { token });
  expect(await remove("doomed")).toMatchObject({
    status: 409,
    body: {
      code: "state-conflict",
      detail: `The network is in use: set ${setId} has not left its host yet. Try again later.`,
    },
  });
  await quarantine(setId);
  expect((await remove("doomed")).status).toBe(204);
  expect((await remove("doomed")).status).toBe(404);
  const addServices = async (...names: string[]): Promise<void> => {
    for (const name of names)
      await send("POST", "/v1/services", serviceBody(name, { replicas: 1 }), { token: toys });
  };
  const inUseBy = (names: string) => ({
    status: 409,
    body: {
      code: "state-conflict",
      detail: `The network is in use by the services ${names}. Remove it from their templates first, and delete the sets that use it.`,
    },
  });
  await addServices("a", "b", "c", "d", "e");
  expect(await remove("default", toys)).toMatchObject(inUseBy("a, b, c, d, e"));
  await addServices("f");
  expect(await remove("default", toys)).toMatchObject(inUseBy("a, b, c, d, e and more"));
});

it("gives concurrent creations different VNIs, and bounds the networks of a tenant", async () => {
  const token = await test.tokenOf("tenant", "many");
  const names = Array.from({ length: NETWORKS_PER_TENANT_MAX }, (_, index) => `n${index}`);
  const made = await Promise.all(
    names.map((name) => create(name, [{ cidr: "10.0.0.0/24" }], token)),
  );
  expect(new Set(made.map(({ body }) => body.vni)).size).toBe(names.length);
  expect(await create("one-more", [{ cidr: "10.0.0.0/24" }], token)).toMatchObject({
    status: 422,
    body: {
      code: "quota-exceeded",
      detail: "The tenant has 64 networks, the maximum. Delete one first.",
    },
  });
});

it("skips a VNI that is in use when the VNIs start again", async () => {
  const { body } = await create("before", [{ cidr: "10.1.0.0/24" }]);
  await test.ctx.db.execute(sql`select setval('network_vnis', ${body.vni}, false)`);
  const next = await create("after", [{ cidr: "10.1.0.0/24" }]);
  expect(next.status).toBe(201);
  expect(next.body.vni).toBe(body.vni + 1);
});
