import { sql } from "drizzle-orm";
import { afterAll, beforeAll, beforeEach, expect, it } from "vitest";
import type { Rule } from "../../../src/contracts/api/rules.ts";
import { RULES_PER_NETWORK_MAX } from "../../../src/contracts/common/limits.ts";
import { hostRuleSchema } from "../../../src/contracts/network-driver/host-rule.ts";
import { closeServices } from "../../../src/control/services/close-services.ts";
import { listHostRules } from "../../../src/db/queries/rules/host-rules.ts";
import { deleteNetworkRow, lockNetwork } from "../../../src/db/queries/networks/networks.ts";
import { queryRows } from "../../../src/db/queries/runtime/query.ts";
import { withTx } from "../../../src/db/transaction.ts";
import { createTestApi, serviceBody, type TestApi } from "../../support/api/test-api.ts";
import { waitForLockWait } from "../../support/fleet/lock-waits.ts";

let test: TestApi;
let token: string;
let tenants = 0;

beforeAll(async () => {
  test = await createTestApi();
});
afterAll(() => test.close());

/** Each test has a tenant with the services web and db and the network default. */
beforeEach(async () => {
  token = await test.tokenOf("tenant", `tenant-${tenants++}`);
  for (const name of ["web", "db"])
    await send("POST", "/v1/services", serviceBody(name, { replicas: 0 }));
});

interface Answer {
  status: number;
  etag: string | null;
  body: Rule & {
    rules: Rule[];
    items: (Rule & { text: string })[];
    nextCursor: string | null;
    code: string;
    detail: string;
    errors: { pointer: string; detail: string }[];
  };
}

async function send(
  method: string,
  path: string,
  body?: unknown,
  headers: Record<string, string> = {},
): Promise<Answer> {
  const options = { token, headers, ...(body === undefined ? {} : { body }) };
  const response = await test.request(method, path, options);
  const text = await response.text();
  return {
    status: response.status,
    etag: response.headers.get("etag"),
    body: (text === "" ? null : JSON.parse(text)) as Answer["body"],
  };
}

const denyAll = { network: "default", direction: "ingress", action: "deny", peer: { any: true } };
const create = (...rules: object[]) => send("POST", "/v1/rules", { rules });

async function readTenantId(): Promise<string> {
  const tenant = `tenant-${tenants - 1}`;
  const [row] = await queryRows<{ id: string }>(
    test.ctx.db,
    sql`select id from tenants where name = ${tenant}`,
  );
  return row?.id ?? "";
}

async function readHostRules(network = "default") {
  const tenant = `tenant-${tenants - 1}`;
  const [row] = await queryRows<{ id: string; rulesVersion: number; endConnectionsCount: number }>(
    test.ctx.db,
    sql`select n.id, n.rules_version::float8 as "rulesVersion", n.end_connections_count::float8 as "endConnectionsCount" from networks n join tenants t on t.id = n.tenant_id where t.name = ${tenant} and n.name = ${network}`,
  );
  const [read] = await listHostRules(test.ctx.db, [row?.id ?? ""]);
  return { ...row, rules: read?.rules };
}

it("creates the rules of one request in its order, in canonical form", async () => {
  const made = await create(
    {
      ...denyAll,
      name: "only-web",
      service: "db",
      protocol: "tcp",
      ports: [5433, "5432", "6000-6010", "6011"],
      priority: 10,
    },
    { ...denyAll, name: "web", action: "allow", service: "db", peer: { service: "web" } },
    { ...denyAll, name: "out", direction: "egress", peer: { cidr: "10.9.0.7" } },
    { ...denyAll, name: "inside", peer: { network: "default" }, protocol: "icmp" },
  );
  expect(made).toMatchObject({ status: 201 });
  expect(made.body.rules).toMatchObject([
    {
      name: "only-web",
      network: "default",
      generation: 1,
      ports: ["5432-5433", "6000-6011"],
      service: "db",
      peer: { any: true },
      priority: 10,
    },
    { name: "web", action: "allow", peer: { service: "web" }, protocol: "any", priority: 1_000 },
    { name: "out", service: null, peer: { cidr: "10.9.0.7/32" }, ports: [] },
    { name: "inside", peer: { network: "default" } },
  ]);
  const { body } = await send("GET", "/v1/rules");
  expect(body.items).toEqual(made.body.rules);
  expect((await send("GET", "/v1/rules?service=web")).body.items).toMatchObject([{ name: "web" }]);
  expect((await send("GET", "/v1/rules?network=other")).body.items).toEqual([]);
  expect((await send("GET", "/v1/rules/web")).body).toEqual(made.body.rules[1]);
});

it("gives hosts the rules in the form that the network driver accepts", async () => {
  await create(
    { ...denyAll, name: "a", protocol: "udp", ports: ["53"], peer: { cidr: "0.0.0.0/0" } },
    { ...denyAll, name: "b", service: "db", peer: { service: "web" } },
    { ...denyAll, name: "c", peer: { network: "default" } },
    { ...denyAll, name: "d" },
  );
  const stored = await readHostRules();
  expect(stored).toMatchObject({ rulesVersion: 1, endConnectionsCount: 0 });
  for (const rule of stored.rules ?? []) expect(hostRuleSchema.parse(rule)).toEqual(rule);
  const serviceId = expect.stringMatching(/^svc_/) as string;
  expect(stored.rules).toMatchObject([
    { name: "a", ports: [{ first: 53, last: 53 }], peer: { kind: "cidr", cidr: "0.0.0.0/0" } },
    { name: "b", serviceId, peer: { kind: "service", serviceId } },
    { name: "c", peer: { kind: "network" } },
    { name: "d", serviceId: null, peer: { kind: "any" } },
  ]);
});

it("names each fault with a pointer, and then creates no rule of the request", async () => {
  await send("POST", "/v1/networks", { name: "other", subnets: [{ cidr: "10.3.0.0/24" }] });
  const answer = await create(
    { ...denyAll, name: "fine" },
    { ...denyAll, name: "a", network: "missing" },
    { ...denyAll, name: "b", service: "missing" },
    { ...denyAll, name: "c", peer: { service: "gone" } },
    { ...denyAll, name: "d", peer: { network: "other" } },
    { ...denyAll, name: "e", peer: { cidr: "fd00::/64" } },
  );
  expect(answer).toMatchObject({ status: 422, body: { code: "invalid-request" } });
  expect(answer.body.errors).toEqual([
    {
      pointer: "/rules/1/network",
      detail: "The tenant has no network missing. Create it with `berth network create`.",
    },
    {
      pointer: "/rules/2/service",
      detail: "The tenant has no service missing. Create it first.",
    },
    {
      pointer: "/rules/3/peer/service",
      detail: "The tenant has no service gone. Create it first.",
    },
    {
      pointer: "/rules/4/peer/network",
      detail:
        "No path leads between the networks default and other. The peer can only be network default.",
    },
    {
      pointer: "/rules/5/peer/cidr",
      detail: "Network default has no IPv6 subnet, so the rule would match no packet.",
    },
  ]);
  expect((await send("GET", "/v1/rules")).body.items).toEqual([]);
  expect(await create({ ...denyAll, name: "a" }, { ...denyAll, name: "a" })).toMatchObject({
    status: 422,
    body: {
      detail: "The request names rule a twice: also at /rules/0.",
      errors: [{ pointer: "/rules/1/name" }],
    },
  });
});

it("refuses to name a service that is being deleted, and shows 20 faults of a request", async () => {
  await test.ctx.db.execute(
    sql`update services set deleting = true where name = 'web' and tenant_id = ${await readTenantId()}`,
  );
  const named = (service: string) => (_: unknown, place: number) => ({
    ...denyAll,
    name: `${service}-${place}`,
    service,
  });
  const rules = [
    ...Array.from({ length: 20 }, named("web")),
    ...Array.from({ length: 3 }, named("missing")),
  ];
  const { status, body } = await create(...rules);
  expect(status).toBe(422);
  const detail = "Service web is being deleted. Wait until it is deleted.";
  expect(body.detail).toBe(`${detail} 3 more faults are not shown.`);
  expect(body.errors).toHaveLength(20);
  expect(body.errors[0]).toEqual({ pointer: "/rules/0/service", detail });
});

it.each([
  ["ports without TCP or UDP", { ports: [80] }, "/rules/0/ports"],
  ["a range in the wrong order", { protocol: "tcp", ports: ["90-80"] }, "/rules/0/ports/0"],
  ["a port above 65535", { protocol: "tcp", ports: [65_536] }, "/rules/0/ports/0"],
  ["a CIDR with host bits", { peer: { cidr: "10.0.0.7/8" } }, "/rules/0/peer/cidr"],
  ["a CIDR in another notation", { peer: { cidr: "010.0.0.0/8" } }, "/rules/0/peer/cidr"],
  ["an IPv4 address in IPv6", { peer: { cidr: "::ffff:10.0.0.1" } }, "/rules/0/peer/cidr"],
  ["a peer of two kinds", { peer: { any: true, cidr: "10.0.0.0/8" } }, "/rules/0/peer"],
  ["a peer of no kind", { peer: {} }, "/rules/0/peer"],
  ["the reserved name", { name: "explain" }, "/rules/0/name"],
  ["a name that is no label", { name: "a.b;drop" }, "/rules/0/name"],
  ["a name with a newline", { name: "a\nb" }, "/rules/0/name"],
  ["a priority above 9999", { priority: 10_000 }, "/rules/0/priority"],
  ["an unknown direction", { direction: "both" }, "/rules/0/direction"],
])("refuses %s", async (_fault, members, pointer) => {
  const answer = await create({ ...denyAll, name: "a", ...members });
  expect(answer).toMatchObject({ status: 422, body: { code: "invalid-request" } });
  expect(answer.body.errors.map((error) => error.pointer)).toContain(pointer);
});

it("refuses a name that the tenant has, even for another network", async () => {
  await create({ ...denyAll, name: "a" });
  const again = await create({ ...denyAll, name: "b" }, { ...denyAll, name: "a" });
  expect(again).toMatchObject({
    status: 409,
    body: {
      code: "already-exists",
      detail: "The tenant already has a rule a. Berth created no rule of this request.",
      errors: [{ pointer: "/rules/1/name" }],
    },
  });
  expect((await send("GET", "/v1/rules/b")).status).toBe(404);
});

it("an error names at most five existing rules, and points at 20", async () => {
  const rules = Array.from({ length: 25 }, (_, place) => ({ ...denyAll, name: `r-${place}` }));
  await create(...rules);
  const { status, body } = await create({ ...denyAll, name: "new" }, ...rules);
  expect(status).toBe(409);
  expect(body.detail).toBe(
    "The tenant already has a rule r-0. The tenant already has a rule r-1. The tenant already has a rule r-2. The tenant already has a rule r-3. The tenant already has a rule r-4. It has 20 more of them. Berth created no rule of this request.",
  );
  expect(body.errors).toHaveLength(20);
  expect(body.errors[0]?.pointer).toBe("/rules/1/name");
});

it("creates the rules of an Idempotency-Key once", async () => {
  const headers = { "Idempotency-Key": "rules-once" };
  const body = { rules: [{ ...denyAll, name: "a" }] };
  const first = await send("POST", "/v1/rules", body, headers);
  expect(await send("POST", "/v1/rules", body, headers)).toEqual(first);
  expect((await readHostRules()).rulesVersion).toBe(1);
});

it("changes the named members at the generation that the caller read", async () => {
  await create({ ...denyAll, name: "a", protocol: "tcp", ports: [80], service: "db" });
  const stale = await send("PATCH", "/v1/rules/a", { action: "allow" }, { "If-Match": '"7"' });
  expect(stale).toMatchObject({ status: 412, body: { code: "generation-mismatch" } });
  const changed = await send(
    "PATCH",
    "/v1/rules/a",
    { action: "allow", service: null, peer: { service: "web" } },
    { "If-Match": '"1"' },
  );
  expect(changed).toMatchObject({
    status: 200,
    etag: '"2"',
    body: { action: "allow", service: null, ports: ["80"], peer: { service: "web" } },
  });
  expect(await send("PATCH", "/v1/rules/a", { ports: ["80"] })).toMatchObject({
    body: { generation: 2 },
  });
  expect(await send("PATCH", "/v1/rules/a", { protocol: "icmp" })).toMatchObject({
    status: 422,
    body: { errors: [{ pointer: "/ports", detail: expect.stringContaining("icmp has no ports") }] },
  });
  const icmp = await send("PATCH", "/v1/rules/a", { protocol: "icmp", ports: [] });
  expect(icmp).toMatchObject({ status: 200, body: { protocol: "icmp", ports: [] } });
  expect(await send("PATCH", "/v1/rules/a", { peer: { service: "gone" } })).toMatchObject({
    status: 422,
    body: { errors: [{ pointer: "/peer/service" }] },
  });
  const { body } = await send("GET", "/v1/events?kind=rule-changed");
  expect(body.items.map(({ text }) => text)).toEqual([
    "Rule a in network default changed: protocol, ports. Now it is: allow ingress icmp to all sets from service web, priority 1000.",
    "Rule a in network default changed: action, service, peer. Now it is: allow ingress tcp 80 to all sets from service web, priority 1000.",
  ]);
});

it("counts the changes that end connections, and wakes the hosts of the network", async () => {
  await create({ ...denyAll, name: "a" });
  const counts = async () => {
    const stored = await readHostRules();
    return [stored.rulesVersion, stored.endConnectionsCount];
  };
  expect(await counts()).toEqual([1, 0]);
  await send("POST", "/v1/rules", { rules: [{ ...denyAll, name: "b" }], endConnections: true });
  expect(await counts()).toEqual([2, 1]);
  await send("PATCH", "/v1/rules/b", { priority: 5, endConnections: true });
  expect(await counts()).toEqual([3, 2]);
  await send("PATCH", "/v1/rules/b", { priority: 5 });
  expect(await counts()).toEqual([3, 2]);
  // An operator ends the connections after a change that did not.
  await send("PATCH", "/v1/rules/b", { priority: 5, endConnections: true });
  expect(await counts()).toEqual([4, 3]);
  await send("DELETE", "/v1/rules/a");
  expect(await counts()).toEqual([5, 3]);
  await send("DELETE", "/v1/rules/b?endConnections=true");
  expect(await counts()).toEqual([6, 4]);
  expect((await send("DELETE", "/v1/rules/b")).status).toBe(404);
});

it("refuses rules with more port ranges than hosts can match", async () => {
  // Each range takes 22 masks, so a rule takes 352.
  const ports = Array.from(
    { length: 16 },
    (_, place) => `${place * 4_096 + 1}-${place * 4_096 + 4_094}`,
  );
  const ruleOf = (place: number) => ({ ...denyAll, name: `r-${place}`, protocol: "tcp", ports });
  const answer = await create(...Array.from({ length: 284 }, (_, place) => ruleOf(place)));
  expect(answer.status).toBe(201);
  const refused = {
    status: 422,
    body: {
      code: "quota-exceeded",
      detail:
        "The port ranges of the rules of network default need more than 100000 matches. Use single ports, ranges such as 8192-8447 that begin at a multiple of their length, or fewer rules.",
    },
  };
  expect(await create(ruleOf(284))).toMatchObject(refused);
  expect((await create({ ...ruleOf(284), ports: [80] })).status).toBe(201);
  expect(await send("PATCH", "/v1/rules/r-284", { ports })).toMatchObject(refused);
  expect((await readHostRules()).rules).toHaveLength(285);
});

it("accepts 10,000 rules of a network in requests of 500, and no more", async () => {
  for (let first = 0; first < RULES_PER_NETWORK_MAX; first += 500) {
    const rules = Array.from({ length: 500 }, (_, place) => ({
      ...denyAll,
      name: `r-${first + place}`,
      protocol: "tcp",
      ports: [1 + ((first + place) % 65_535)],
    }));
    expect((await create(...rules)).status).toBe(201);
  }
  const stored = await readHostRules();
  expect(stored.rules).toHaveLength(RULES_PER_NETWORK_MAX);
  expect(await create({ ...denyAll, name: "one-more" })).toMatchObject({
    status: 422,
    body: {
      code: "quota-exceeded",
      detail:
        "Network default has 10000 rules, and at most 10000 are permitted. Delete rules, or merge some: a rule may have several ports, and a cidr many addresses.",
    },
  });
  const tooMany = Array.from({ length: 501 }, (_, place) => ({ ...denyAll, name: `s-${place}` }));
  expect(await create(...tooMany)).toMatchObject({
    status: 422,
    body: { code: "invalid-request" },
  });
  const names: string[] = [];
  for (let cursor: string | null = ""; cursor !== null;) {
    const page = await send("GET", `/v1/rules?limit=500${cursor && `&cursor=${cursor}`}`);
    names.push(...page.body.items.map(({ name }) => name));
    cursor = page.body.nextCursor;
  }
  expect(new Set(names).size).toBe(RULES_PER_NETWORK_MAX);
  const { body } = await send("GET", "/v1/events?kind=rules-created&limit=1");
  expect(body.items[0]?.text).toMatch(
    /^500 rules created in network default: r-9500 .* and 495 more\.$/,
  );
}, 60_000);

it("refuses more than 20,000 rules of a tenant in all its networks", async () => {
  for (const [place, network] of ["second", "third"].entries())
    await send("POST", "/v1/networks", {
      name: network,
      subnets: [{ cidr: `10.${place}.0.0/24` }],
    });
  await create({ ...denyAll, name: "first" });
  await test.ctx.db.execute(
    sql`insert into rules (id, tenant_id, network_id, name, direction, action, protocol, ports, peer_kind, priority)
        select n.id || place, n.tenant_id, n.id, n.name || place, 'ingress', 'deny', 'any', '[]', 'any', 1
        from networks n, generate_series(1, 9999) place
        where n.tenant_id = ${await readTenantId()} and n.name in ('second', 'third')`,
  );
  expect((await create({ ...denyAll, name: "last" })).status).toBe(201);
  expect(await create({ ...denyAll, name: "one-more" })).toMatchObject({
    status: 422,
    body: {
      code: "quota-exceeded",
      detail:
        "The tenant has 20000 rules, and at most 20000 are permitted. Delete rules, or merge some: a rule may have several ports, and a cidr many addresses.",
    },
  });
});

it("deletes the rules that name a service with its last set, and says why", async () => {
  await create(
    { ...denyAll, name: "target", service: "web" },
    { ...denyAll, name: "peer", peer: { service: "web" } },
    { ...denyAll, name: "other", service: "db" },
  );
  await send("DELETE", "/v1/services/web");
  await closeServices(test.ctx);
  expect((await send("GET", "/v1/rules")).body.items).toMatchObject([{ name: "other" }]);
  expect(await readHostRules()).toMatchObject({ rulesVersion: 2, rules: [{ name: "other" }] });
  const { body } = await send("GET", "/v1/events?kind=rules-deleted");
  expect(body.items).toMatchObject([
    {
      text: "2 rules deleted in network default: peer, target. They named service web, which is deleted.",
    },
  ]);
});

it("retains the rules of a service until its last set has left, but accepts no new ones", async () => {
  await send("POST", "/v1/services", serviceBody("busy", { replicas: 1 }));
  await create({ ...denyAll, name: "a", service: "busy" });
  await test.ctx.db.execute(sql`update services set deleting = true where name = 'busy'`);
  await closeServices(test.ctx);
  expect((await send("GET", "/v1/rules/a")).status).toBe(200);
  expect(await create({ ...denyAll, name: "b", service: "busy" })).toMatchObject({
    status: 422,
    body: { errors: [{ detail: expect.stringContaining("is being deleted") }] },
  });
});

it("deletes the rules of a network with it", async () => {
  await send("POST", "/v1/networks", { name: "mine", subnets: [{ cidr: "10.3.0.0/24" }] });
  await create({ ...denyAll, name: "a", network: "mine" });
  expect((await send("DELETE", "/v1/networks/mine")).status).toBe(204);
  expect((await send("GET", "/v1/rules/a")).status).toBe(404);
});

it("never leaves a rule that names a deleted service, whatever the order", async () => {
  for (let round = 0; round < 10; round++) {
    const service = `short-${round}`;
    await send("POST", "/v1/services", serviceBody(service, { replicas: 0 }));
    await Promise.all([
      create({ ...denyAll, name: `r-${round}`, service }),
      send("DELETE", `/v1/services/${service}`),
    ]);
    await closeServices(test.ctx);
  }
  const [row] = await queryRows<{ count: number }>(
    test.ctx.db,
    sql`select count(*)::int as count from rules r join services s on s.id = r.service_id where s.deleted_at is not null`,
  );
  expect(row?.count).toBe(0);
});

it("I15: a service closes beside the deletion of its rules' network without a deadlock", async () => {
  await send("POST", "/v1/networks", { name: "mine", subnets: [{ cidr: "10.3.0.0/24" }] });
  await create({ ...denyAll, name: "a", network: "mine", service: "web" });
  const tenantId = await readTenantId();
  await test.ctx.db.execute(
    sql`update services set deleting = true where name = 'web' and tenant_id = ${tenantId}`,
  );
  let attempts = 0;
  let closing: Promise<number> | undefined;
  await withTx(test.ctx.db, async (tx) => {
    attempts += 1;
    const network = await lockNetwork(tx, tenantId, "mine", true);
    closing = closeServices(test.ctx);
    closing.catch(() => undefined);
    await waitForLockWait(test.ctx.db, "the service waits for the network");
    // It has a connection of its own, so that it delays no other statement.
    const reads = Array.from({ length: 40 }, () => send("GET", "/v1/rules"));
    for (const { status } of await Promise.all(reads)) expect(status).toBe(200);
    await deleteNetworkRow(tx, network?.id ?? "");
  });
  expect(await closing).toBe(1);
  expect(attempts).toBe(1);
  expect((await send("GET", "/v1/rules")).body.items).toEqual([]);
});
