import { expect, test } from "vitest";
import { createNetworkBody } from "../../../src/contracts/api/networks.ts";
import { explainRulesQuery } from "../../../src/contracts/api/rule-explanation.ts";
import { createRulesBody } from "../../../src/contracts/api/rules.ts";
import { createNetwork } from "../../../src/control/networks/create-network.ts";
import { createRules } from "../../../src/control/rules/create-rules.ts";
import { explainRules } from "../../../src/control/rules/explain-rules.ts";
import { ServiceAddresses } from "../../../src/control/networks/assign-service-addresses.ts";
import { listNetworks } from "../../../src/db/queries/networks/networks.ts";
import { listHostRules } from "../../../src/db/queries/rules/host-rules.ts";
import { createService } from "../../../src/control/services/create-service.ts";
import { getService } from "../../../src/control/services/get-service.ts";
import { scaleService } from "../../../src/control/services/scale-service.ts";
import { type FleetContext, serviceBody, smallHost } from "../../support/fleet/fleet-context.ts";
import { fleetPerTest } from "../../support/fleet/fleet-per-test.ts";
import { enrollNetworked, listAddresses } from "../../support/fleet/network-hosts.ts";

const start = fleetPerTest();

/** Two sets of web and one of db in network app, and one of lone in network far. */
async function startServices(): Promise<FleetContext> {
  const f = await start();
  const allocatable = { ...smallHost, cpuMillis: 16_000, memoryBytes: 2 ** 36 };
  await enrollNetworked(f, "h1", { allocatable });
  for (const [name, cidrs] of [
    ["app", ["10.1.0.0/24", "fd01::/64"]],
    ["far", ["10.2.0.0/24"]],
  ] as const) {
    const subnets = cidrs.map((cidr) => ({ cidr }));
    await createNetwork(f.ctx, f.tenantId, createNetworkBody.parse({ name, subnets }));
  }
  for (const [name, network, replicas] of [
    ["web", "app", 2],
    ["db", "app", 1],
    ["lone", "far", 1],
  ] as const) {
    const body = serviceBody(name, { replicas });
    await createService(f.ctx, f.tenantId, {
      ...body,
      template: { ...body.template, networks: [{ network }] },
    });
  }
  expect(await f.placer.placeSets()).toMatchObject({ placed: 4 });
  return f;
}

const explain = (f: FleetContext, from: string, to: string, more: object = { port: 5432 }) =>
  explainRules(f.ctx, f.tenantId, explainRulesQuery.parse({ from, to, ...more }));

const addRules = (f: FleetContext, ...rules: object[]) => {
  const all = rules.map((rule) => ({ network: "app", direction: "ingress", ...rule }));
  return createRules(f.ctx, f.tenantId, createRulesBody.parse({ rules: all }));
};

test("names no rule for what the default allows", async () => {
  const f = await startServices();
  const answer = await explain(f, "web", "db");
  expect(answer).toMatchObject({
    verdict: "allowed",
    paths: [
      {
        network: "app",
        isAllowed: true,
        egress: { action: "allow", rule: null },
        ingress: { action: "allow", rule: null },
        connectionCount: 4,
      },
    ],
    notes: [],
  });
  expect(answer.text).toContain("Ingress of service db: allowed, because no rule matches.");
});

test("names the rule of each direction, by priority and then deny before allow", async () => {
  const f = await startServices();
  const deny = { action: "deny", service: "db", peer: { any: true } };
  const allow = { action: "allow", service: "db", peer: { service: "web" }, protocol: "tcp" };
  await addRules(
    f,
    { ...deny, name: "closed" },
    { ...allow, name: "equal" },
    { action: "allow", name: "out", direction: "egress", service: "web", peer: { any: true } },
  );
  expect(await explain(f, "web", "db")).toMatchObject({
    verdict: "denied",
    paths: [{ egress: { rule: { name: "out" } }, ingress: { rule: { name: "closed" } } }],
  });
  await addRules(f, { ...allow, name: "higher", priority: 1_001, ports: ["5000-6000"] });
  const allowed = await explain(f, "web", "db");
  expect(allowed).toMatchObject({
    verdict: "allowed",
    paths: [{ ingress: { action: "allow", rule: { name: "higher", peer: { service: "web" } } } }],
  });
  expect(allowed.text).toContain(
    "Ingress of service db: allowed by rule higher (priority 1001, tcp 5000-6000, peer service web).",
  );
  expect(await explain(f, "web", "db", { port: 80 })).toMatchObject({ verdict: "denied" });
  expect(await explain(f, "web", "db", { protocol: "udp", port: 5432 })).toMatchObject({
    verdict: "denied",
  });
  expect(await explain(f, "web", "db", { protocol: "icmp" })).toMatchObject({ verdict: "denied" });
  expect(await explain(f, "db", "web")).toMatchObject({ verdict: "allowed" });
});

test("reads only the rules that can match, whatever the number of the others", async () => {
  const f = await startServices();
  const deny = { action: "deny", peer: { any: true } };
  await addRules(
    f,
    { ...deny, name: "all" },
    { ...deny, name: "of-db", service: "db" },
    { ...deny, name: "of-lone", service: "lone" },
    { ...deny, name: "from-web", peer: { service: "web" }, protocol: "tcp", ports: [80] },
    { ...deny, name: "from-lone", peer: { service: "lone" } },
    { ...deny, name: "pings", protocol: "icmp" },
  );
  const services = await Promise.all(
    ["web", "db"].map((name) => getService(f.ctx, f.tenantId, name)),
  );
  const networkIds = (await listNetworks(f.ctx.db, f.tenantId, undefined, 2)).map(({ id }) => id);
  const read = await listHostRules(f.ctx.db, networkIds, {
    serviceIds: services.map(({ id }) => id),
    protocol: "tcp",
  });
  const names = read.flatMap(({ rules }) => rules.map(({ name }) => name));
  expect(names.toSorted()).toEqual(["all", "from-web", "of-db"]);
});

test("shows the addresses of a service that a rule treats differently", async () => {
  const f = await startServices();
  const [first] = (await listAddresses(f)).filter(({ address }) => address.startsWith("10.1."));
  const peer = { cidr: first?.address };
  await addRules(f, { name: "one", action: "deny", service: "db", peer });
  const answer = await explain(f, "web", "db", { port: 80 });
  expect(answer.verdict).toBe("mixed");
  expect(answer.text).toMatch(/^Partly allowed: 80\/tcp\.$/m);
  expect(answer.paths).toMatchObject([
    {
      from: { address: first?.address, setId: first?.setId },
      isAllowed: false,
      connectionCount: 1,
    },
    { isAllowed: true, connectionCount: 3 },
  ]);
  const one = await explain(f, first?.setId ?? "", "db", { port: 80 });
  expect(one.paths.map(({ isAllowed }) => isAllowed)).toEqual([false, true]);
});

test("decides external addresses by the rules of the set alone", async () => {
  const f = await startServices();
  const egress = { direction: "egress", action: "deny", name: "no-internet" };
  await addRules(f, { ...egress, peer: { cidr: "192.0.0.0/8" } });
  expect(await explain(f, "web", "192.168.7.9")).toMatchObject({
    verdict: "denied",
    paths: [{ egress: { rule: { name: "no-internet" } }, ingress: null, to: { setId: null } }],
  });
  expect(await explain(f, "web", "193.0.0.1")).toMatchObject({ verdict: "allowed" });
  expect(await explain(f, "192.168.7.9", "db")).toMatchObject({
    paths: [{ egress: null, ingress: { action: "allow", rule: null } }],
    notes: ["External addresses reach sets only through published ports."],
  });
});

test("decides about the sets behind a service address", async () => {
  const f = await startServices();
  await new ServiceAddresses(f.ctx).assign();
  const { addresses } = await getService(f.ctx, f.tenantId, "web");
  const [address = ""] = addresses[0]?.addresses ?? [];
  await addRules(f, { name: "closed", action: "deny", service: "web", peer: { any: true } });
  const answer = await explain(f, "db", address);
  expect(answer).toMatchObject({
    verdict: "denied",
    paths: [
      {
        to: { setId: expect.any(String) as string, service: "web" },
        ingress: { rule: { name: "closed" } },
        connectionCount: 2,
      },
    ],
    notes: [
      `${address} is an address of service web. The rules decide about the set that a connection reaches.`,
    ],
  });
  expect(await explain(f, address, "db")).toMatchObject({
    verdict: "no-path",
    notes: [`No set of network app has the address ${address}.`],
  });
});

test("allows DNS queries to the gateway whatever the rules", async () => {
  const f = await startServices();
  await addRules(f, { name: "sealed", direction: "egress", action: "deny", peer: { any: true } });
  expect(await explain(f, "web", "10.1.0.1", { port: 53, protocol: "udp" })).toMatchObject({
    verdict: "allowed",
    paths: [{ egress: { action: "allow", rule: null } }],
    notes: ["DNS queries to the gateway pass whatever the rules."],
  });
  expect(await explain(f, "web", "10.1.0.1", { port: 80 })).toMatchObject({ verdict: "denied" });
  expect(await explain(f, "web", "10.9.0.1", { port: 53 })).toMatchObject({ verdict: "denied" });
});

test("compares the first eight sets of a service, and says so", async () => {
  const f = await startServices();
  await scaleService(f.ctx, f.tenantId, "web", { replicas: 9 }, undefined);
  expect(await f.placer.placeSets()).toMatchObject({ placed: 7 });
  expect(await explain(f, "web", "db")).toMatchObject({
    paths: [{ connectionCount: 16 }],
    notes: ["Service web has more than 8 sets. The first were compared."],
  });
});

test("says why no path leads from one end to the other", async () => {
  const f = await startServices();
  await createService(f.ctx, f.tenantId, serviceBody("idle", { replicas: 0 }));
  const [own] = await listAddresses(f);
  for (const [from, to, note] of [
    [
      "web",
      "lone",
      "Service web is in network app, and service lone is in network far. No path leads between networks.",
    ],
    ["web", "10.1.0.99", "No set of network app has the address 10.1.0.99."],
    ["web", "idle", "Service idle has no address in a network of the tenant."],
    ["192.168.0.1", "192.168.0.2", "Neither address is in a network of the tenant."],
    ["web", "2a00::1", "Sets have no path to or from external IPv6 addresses."],
    [
      own?.setId ?? "",
      own?.address ?? "",
      "Both ends are the same set, or have no addresses of one family. No rule applies inside a set.",
    ],
  ] as const) {
    const answer = await explain(f, from, to);
    expect(answer).toMatchObject({ verdict: "no-path", paths: [], notes: [note] });
    expect(answer.text).toBe(`No path.\n${note}`);
  }
  expect(await explain(f, "web", "db", { port: 80, network: "far" })).toMatchObject({
    verdict: "no-path",
  });
});

test("finds nothing of another tenant, and refuses what no end can be", async () => {
  const f = await startServices();
  const [own] = await listAddresses(f);
  for (const end of ["missing", "set_01jd0000000000000000000001"])
    await expect(explain(f, end, "db")).rejects.toMatchObject({ code: "not-found" });
  await expect(explain(f, "web", "db", { port: 1, network: "none" })).rejects.toMatchObject({
    code: "not-found",
  });
  const detail = "expected the id of a set, the name of a service, or an address";
  await expect(explain(f, "web", "a b;")).rejects.toMatchObject({
    code: "invalid-request",
    publicDetail: `to: ${detail}.`,
    errors: [{ pointer: "to", detail }],
  });
  const query = { from: own?.setId ?? "", to: "db", protocol: "tcp" as const, port: 1 };
  await expect(explainRules(f.ctx, "tnt_other", query)).rejects.toMatchObject({
    code: "not-found",
  });
});

test("requires a port for TCP and UDP, and none for ICMP", () => {
  for (const query of [
    { from: "a", to: "b" },
    { from: "a", to: "b", protocol: "icmp", port: 1 },
    { from: "a", to: "b", port: 0 },
    { from: "", to: "b", port: 1 },
  ])
    expect(explainRulesQuery.safeParse(query).success).toBe(false);
});
