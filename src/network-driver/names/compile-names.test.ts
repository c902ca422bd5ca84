import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { NameRecord, NameTable } from "../ports/name-server.ts";
import { seededRandom } from "../../../test/support/seeded-random.ts";
import { compileNames, ENDPOINTS_PER_NAME_MAX, type NamedNetwork } from "./compile-names.ts";

type Service = NamedNetwork["services"][number];

const setId = (number: number) => `set_${String(number).padStart(26, "0")}`;
const setName = (number: number) => setId(number).replace("_", "-");

function service(name: string, changes: Partial<Service> = {}): Service {
  return { serviceId: `svc_${name}`, name, addresses: [], members: [], ports: [], ...changes };
}

function network(name: string, tenantId: string, services: Service[]): NamedNetwork {
  const networkId = `net_${tenantId}_${name}`;
  return { networkId, tenantId, name, services, clientAddress: `client of ${networkId}` };
}

const member = (number: number, address: string, isEndpoint = true) => ({
  setId: setId(number),
  addresses: [address],
  isEndpoint,
});

/** The answer that a client of the network gets. Undefined if the name does not exist. */
function resolve(
  table: NameTable,
  { clientAddress }: NamedNetwork,
  name: string,
): string[] | undefined {
  const client = table.clients.find(({ address }) => address === clientAddress);
  for (const zone of table.zones) {
    if (!client?.zoneIds.includes(zone.zoneId)) continue;
    const found = zone.records.filter((record) => record.name === name);
    if (found.length > 0) return found.map(describeRecord);
  }
  return undefined;
}

function describeRecord(record: NameRecord): string {
  if (record.type === "SRV") return `SRV ${record.port} ${record.target}`;
  return record.type === "none" ? "none" : `${record.type} ${record.address}`;
}

describe("the names of a network", () => {
  const port = { name: "http", protocol: "tcp" as const, port: 8080 };
  const members = [member(2, "10.64.0.2"), member(1, "10.64.0.1"), member(3, "10.64.0.3", false)];

  it("are those of its services, their sets and their ports", () => {
    const addresses = ["10.64.0.100", "fd00::100"];
    const web = network("default", "a", [service("web", { addresses, members, ports: [port] })]);
    const table = compileNames([web]);
    expect(resolve(table, web, "web")).toEqual(["A 10.64.0.100", "AAAA fd00::100"]);
    expect(resolve(table, web, "web.default")).toEqual(["A 10.64.0.100", "AAAA fd00::100"]);
    expect(resolve(table, web, `${setName(3)}.web`)).toEqual(["A 10.64.0.3"]);
    expect(resolve(table, web, "_http._tcp.web")).toEqual(["SRV 8080 web"]);
    expect(resolve(table, web, "_http._udp.web")).toBeUndefined();
    expect(resolve(table, web, "other")).toBeUndefined();
  });

  it("lead to the endpoints of a service without a service address", () => {
    const web = network("default", "a", [service("web", { members, ports: [port] })]);
    const table = compileNames([web]);
    expect(resolve(table, web, "web")).toEqual(["A 10.64.0.1", "A 10.64.0.2"]);
    expect(resolve(table, web, "_http._tcp.web")).toEqual([
      `SRV 8080 ${setName(1)}.web`,
      `SRV 8080 ${setName(2)}.web`,
    ]);
  });

  it("exist without an address if the service has no endpoint", () => {
    const web = network("default", "a", [service("web", { ports: [port] })]);
    const table = compileNames([web]);
    for (const name of ["web", "web.default", "_http._tcp.web"])
      expect(resolve(table, web, name)).toEqual(["none"]);
  });

  it("include the services of other networks of the tenant, by the name of the network", () => {
    const front = network("front", "a", []);
    const back = network("back", "a", [service("db", { addresses: ["10.65.0.9"] })]);
    const table = compileNames([front, back]);
    expect(resolve(table, front, "db.back")).toEqual(["A 10.65.0.9"]);
    expect(resolve(table, front, "db")).toBeUndefined();
  });

  it("prefer a set to a service with the same name in another network", () => {
    const own = network("default", "a", [service("web", { members: [member(1, "10.64.0.1")] })]);
    const other = network("web", "a", [service(setName(1), { addresses: ["10.65.0.9"] })]);
    const table = compileNames([own, other]);
    expect(resolve(table, own, `${setName(1)}.web`)).toEqual(["A 10.64.0.1"]);
    expect(resolve(table, other, `${setName(1)}.web`)).toEqual(["A 10.65.0.9"]);
  });

  it("have a bounded number of addresses", () => {
    const many = Array.from({ length: 300 }, (_, index) => member(index, `10.64.1.${index}`));
    const web = network("default", "a", [service("web", { members: many, ports: [port] })]);
    const table = compileNames([web]);
    expect(resolve(table, web, "web")).toHaveLength(ENDPOINTS_PER_NAME_MAX);
    expect(resolve(table, web, "_http._tcp.web")).toHaveLength(ENDPOINTS_PER_NAME_MAX);
  });

  it("omit what is not a name in DNS", () => {
    const hostile = ["a\n* CNAME .", "a b", "a.b", "", "*", "@", "$INCLUDE", "x".repeat(64)];
    const services = [...hostile.map((name) => service(name)), service("web")];
    const [own, tenant] = compileNames([network("default", "a", services)]).zones;
    expect(own?.records.map(({ name }) => name)).toEqual(["web"]);
    expect(tenant?.records.map(({ name }) => name)).toEqual(["web.default"]);
  });
});

/** Up to three tenants with equal names of networks, services and sets. Each address is unique. */
const networksArbitrary = fc
  .uniqueArray(
    fc.record({
      tenant: fc.constantFrom("a", "b", "c"),
      name: fc.constantFrom("default", "web", "back"),
      services: fc.uniqueArray(
        fc.record({
          name: fc.constantFrom("web", "db", "back", "default", setName(1)),
          hasAddress: fc.boolean(),
          sets: fc.uniqueArray(fc.integer({ min: 1, max: 4 }), { maxLength: 4 }),
          hasPort: fc.boolean(),
        }),
        { selector: ({ name }) => name, maxLength: 4 },
      ),
    }),
    { selector: ({ tenant, name }) => `${tenant} ${name}`, maxLength: 6 },
  )
  .map((networks) =>
    networks.map(({ tenant, name, services }) => {
      const address = (...parts: unknown[]) => `${tenant}/${name}/${parts.join("/")}`;
      return network(
        name,
        tenant,
        services.map((one) =>
          service(one.name, {
            addresses: one.hasAddress ? [address(one.name)] : [],
            members: one.sets.map((set) => member(set, address(one.name, set), set % 2 === 0)),
            ports: one.hasPort ? [{ name: "http", protocol: "tcp", port: 80 }] : [],
          }),
        ),
      );
    }),
  );

describe("for any networks of several tenants", () => {
  it("a client sees only addresses of its tenant, and unqualified only those of its network", () => {
    fc.assert(
      fc.property(networksArbitrary, (networks) => {
        const table = compileNames(networks);
        const names = new Set(table.zones.flatMap(({ records }) => records.map((one) => one.name)));
        for (const one of networks)
          for (const name of names)
            for (const answer of resolve(table, one, name) ?? []) {
              if (!answer.startsWith("A ")) continue;
              expect(answer.slice(2)).toMatch(new RegExp(`^${one.tenantId}/`));
              if (!name.includes(".")) expect(answer).toContain(`A ${one.tenantId}/${one.name}/`);
            }
      }),
    );
  });

  it("each target of a port has an address", () => {
    fc.assert(
      fc.property(networksArbitrary, (networks) => {
        const table = compileNames(networks);
        for (const { records } of table.zones)
          for (const record of records)
            if (record.type === "SRV")
              expect(records).toContainEqual(
                expect.objectContaining({ name: record.target, type: "A" }),
              );
      }),
    );
  });

  it("the order of the input changes nothing, and the number of records is linear", () => {
    fc.assert(
      fc.property(networksArbitrary, (networks) => {
        const random = seededRandom(1);
        const shuffle = <T>(items: readonly T[]) => items.toSorted(() => random() - 0.5);
        const table = compileNames(networks);
        const shuffled = shuffle(networks).map((one) => ({
          ...one,
          services: shuffle(one.services).map((each) => ({
            ...each,
            members: shuffle(each.members),
          })),
        }));
        expect(compileNames(shuffled)).toEqual(table);
        const services = networks.flatMap((one) => one.services);
        const members = services.flatMap((each) => each.members);
        const records = table.zones.flatMap((zone) => zone.records);
        expect(records.length).toBeLessThanOrEqual(3 * services.length + 4 * members.length);
      }),
    );
  });
});
