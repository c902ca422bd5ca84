import { execFile, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { readdir, readFile, rm } from "node:fs/promises";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { setCommandRunner } from "../../src/host-adapters/exec.ts";
import { createUnboundServer } from "../../src/host-adapters/unbound/unbound-server.ts";
import type {
  NameRecord,
  NameServer,
  NameTable,
} from "../../src/network-driver/ports/name-server.ts";
import { type DnsClient, startDnsClient } from "../support/network/dns-client.ts";
import { addNamespace } from "../support/network/machine-traces.ts";
import { createNamespaceRunner } from "../support/network/namespace-runner.ts";
import {
  startResolver,
  startUnboundUnit,
  type UnboundUnit,
} from "../support/network/unbound-unit.ts";
import { waitUntil } from "../support/wait-until.ts";

const run = promisify(execFile);
const { signal } = new AbortController();
const namespace = `berth-dns-${randomBytes(3).toString("hex")}`;
const address = "198.19.255.255";
const [red, blue, other] = ["198.19.16.2", "198.19.16.3", "198.19.16.4"];
const outside = "127.0.0.5";

/** After 12 s, unbound regards a resolver as down. */
const outageMs = 20_000;

let resolver: { close(): Promise<void> };
let client: DnsClient;
let unit: UnboundUnit;
let server: NameServer;
let resolvers: string[];

beforeAll(async () => {
  await addNamespace(namespace);
  await run("ip", ["-n", namespace, "link", "set", "lo", "up"]);
  for (const each of [address, red, blue, other])
    await run("ip", ["-n", namespace, "address", "add", `${each}/32`, "dev", "lo"]);
  resolver = await startResolver(namespace, outside, [
    "www.example.com. 60 IN A 192.0.2.7",
    // As an attacker publishes them.
    ...[1, 2, 3].map((index) => `trap${index}.example.com. 60 IN CNAME web.berth.internal.`),
    "web.berth.internal. 60 IN A 192.0.2.66",
    "other.berth.internal. 60 IN A 192.0.2.66",
  ]);
  client = startDnsClient(["ip", "netns", "exec", namespace]);
});
afterAll(async () => {
  client.close();
  await resolver.close();
  await run("ip", ["netns", "delete", namespace]);
});
beforeEach(async () => {
  setCommandRunner(createNamespaceRunner(namespace));
  unit = await startUnboundUnit(namespace);
  resolvers = [outside];
  server = open();
});
afterEach(async () => {
  setCommandRunner(undefined);
  await unit.close();
});

function open(): NameServer {
  return createUnboundServer({
    folder: unit.folder,
    user: "unbound",
    address,
    clientSubnet: "198.19.0.0/16",
    readResolvers: async () => resolvers,
  });
}

const addressOf = (name: string, value: string): NameRecord => ({
  name,
  type: "A",
  address: value,
});

/** Opens connections that send nothing. Prints a line when all have been tried. */
function startIdleConnections(source: string, count: number) {
  const script = `import socket, sys, time
held = []
for i in range(${count}):
  try: held.append(socket.create_connection(("${address}", 53), 1, ("${source}", 0)))
  except OSError: pass
print("open", flush=True)
time.sleep(60)`;
  return spawn("/sbin/ip", ["netns", "exec", namespace, "python3", "-c", script]);
}

/** Sends queries for names of this source alone, at this pace. It waits for no answer. */
function startQueries(source: string, perSecond: number) {
  const script = `import socket, struct, time
client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
client.bind(("${source}", 0))
start = time.monotonic()
number = 0
while True:
  for _ in range(int((time.monotonic() - start) * ${perSecond}) - number):
    number += 1
    label = b"slow-${source.replaceAll(".", "-")}-%07d" % number
    name = bytes([len(label)]) + label + b"\\x07example\\x03com\\x00"
    head = struct.pack(">6H", number & 0xffff, 0x100, 1, 0, 0, 0)
    client.sendto(head + name + b"\\x00\\x01\\x00\\x01", ("${address}", 53))
    if number % 64 == 0: break
  time.sleep(0.002)`;
  return spawn("/sbin/ip", ["netns", "exec", namespace, "python3", "-c", script]);
}

/** A resolver that answers no name which begins with "slow". */
async function startSlowResolver(resolverAddress: string) {
  const script = `import socket
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("${resolverAddress}", 53))
print("open", flush=True)
while True:
  query, client = server.recvfrom(4096)
  if query[13:17] == b"slow": continue
  question = query[12:query.index(b"\\x00", 12) + 5]
  answer = b"\\xc0\\x0c\\x00\\x01\\x00\\x01\\x00\\x00\\x00\\x3c\\x00\\x04\\xc0\\x00\\x02\\x08"
  server.sendto(query[:2] + b"\\x81\\x80\\x00\\x01\\x00\\x01\\x00\\x00\\x00\\x00" + question + answer, client)`;
  const child = spawn("/sbin/ip", ["netns", "exec", namespace, "python3", "-c", script]);
  await once(child.stdout, "data");
  return child;
}

/** Reads a counter of the server. */
async function count(name: string): Promise<number> {
  const command = ["unbound-control", "-c", `${unit.folder}/control.conf`, "stats_noreset"];
  const { stdout } = await run("ip", ["netns", "exec", namespace, ...command]);
  const value = new RegExp(`^total\\.${name.replaceAll(".", "\\.")}=(\\d+)$`, "m").exec(
    stdout,
  )?.[1];
  if (value === undefined) throw new Error(`the server has no counter ${name}`);
  return Number(value);
}

/** A network for each client, and one tenant for all. */
function tableOf(records: Record<string, NameRecord[]>, tenant: NameRecord[] = []): NameTable {
  const zoneOf = (source: string) => `net_${source.replaceAll(".", "_")}`;
  return {
    zones: [
      ...Object.entries(records).map(([source, own]) => ({ zoneId: zoneOf(source), records: own })),
      { zoneId: "tnt_1", records: tenant },
    ],
    clients: Object.keys(records).map((source) => ({
      address: source,
      zoneIds: [zoneOf(source), "tnt_1"],
    })),
  };
}

/** Applies the table to a server that may still be starting. */
async function apply(table: NameTable): Promise<void> {
  await waitUntil("unbound answers", () => server.apply(table, signal).then(() => true));
}

const ask = (source: string, name: string, type: "A" | "AAAA" | "SRV" | "ANY" = "A") =>
  client.resolve({ server: address, source, name, type });
const askName = (source: string, name: string, type?: "A" | "AAAA" | "SRV") =>
  ask(source, `${name}.berth.internal`, type);

describe("a client", () => {
  it("sees the names of its network and of its tenant, and no others of the domain", async () => {
    const web = (last: number): NameRecord[] => [
      addressOf("web", `10.64.0.${last}`),
      { name: "web", type: "AAAA", address: `fd00::${last}` },
      { name: "_http._tcp.web", type: "SRV", port: 8080, target: "web" },
      { name: "idle", type: "none" },
    ];
    const blueOnly = addressOf("blue", "10.64.0.9");
    const shared = addressOf("web.back", "10.65.0.1");
    await apply(tableOf({ [red]: web(1), [blue]: [...web(2), blueOnly] }, [shared]));
    expect(await askName(red, "web")).toEqual(["10.64.0.1"]);
    expect(await askName(blue, "web")).toEqual(["10.64.0.2"]);
    expect(await askName(red, "web", "AAAA")).toEqual(["fd00::1"]);
    expect(await askName(red, "_http._tcp.web", "SRV")).toEqual(["8080 web.berth.internal"]);
    expect(await askName(red, "web", "SRV")).toEqual([]);
    expect(await askName(red, "idle")).toEqual([]);
    expect(await askName(red, "web.back")).toEqual(["10.65.0.1"]);
    expect(await askName(red, "blue")).toBe("NXDOMAIN");
    expect(await askName(blue, "blue")).toEqual(["10.64.0.9"]);
    // The resolver outside answers this name, but never gets the query.
    expect(await askName(red, "other")).toBe("NXDOMAIN");
    for (const name of ["web", "blue", "web.back"])
      expect(await askName(other, name)).toBe("NXDOMAIN");
    const { records } = await client.ask({
      server: address,
      source: red,
      name: "web.berth.internal",
    });
    expect(records[0]?.ttl).toBeLessThanOrEqual(5);
  });

  it("resolves other names by the resolvers of the host", async () => {
    await apply(tableOf({ [red]: [] }));
    expect(await ask(red, "www.example.com")).toEqual(["192.0.2.7"]);
    expect(await ask(other, "www.example.com")).toEqual(["192.0.2.7"]);
    expect(await ask(red, "none.example.com")).toBe("NXDOMAIN");
  });

  it("cannot see another tenant's names through a CNAME outside, in any order of queries", async () => {
    const names = [addressOf("web", "10.64.0.1")];
    await apply(tableOf({ [red]: names, [blue]: [] }));
    const orders = [
      [red, blue, other],
      [blue, red, other],
      [other, blue, red],
    ];
    const answers: unknown[] = [];
    for (const [index, sources] of orders.entries())
      for (const source of [...sources, ...sources]) {
        const answer = await ask(source, `trap${index + 1}.example.com`);
        if (source !== red) answers.push([answer].flat());
      }
    expect(answers.flat()).not.toContain("10.64.0.1");
  });

  it("gets no answer from another address, to ANY, and about the zones themselves", async () => {
    await apply(tableOf({ [red]: [addressOf("web", "10.64.0.1")] }));
    expect(await ask("127.0.0.1", "web.berth.internal")).toBe("REFUSED");
    expect(await ask(red, "www.example.com", "ANY")).toBe("NOTIMP");
    const zone = `web.berth.internal.net_${red.replaceAll(".", "_")}.names`;
    expect(await ask(red, zone)).toBe("NXDOMAIN");
  });

  it("gets all addresses of a name, over TCP", async () => {
    const many = Array.from({ length: 100 }, (_, index) => addressOf("web", `10.64.1.${index}`));
    await apply(tableOf({ [red]: many }));
    const query = { server: address, source: red, name: "web.berth.internal" };
    expect(await client.ask(query)).toMatchObject({ truncated: true });
    expect((await client.ask({ ...query, tcp: true })).records).toHaveLength(100);
  });
});

it("idle TCP connections of one network do not prevent those of another", async () => {
  const names = [addressOf("web", "10.64.0.1")];
  await apply(tableOf({ [red]: names, [blue]: names }));
  const idle = startIdleConnections(red, 20);
  await once(idle.stdout, "data");
  const query = { server: address, name: "web.berth.internal", tcp: true };
  expect(await client.resolve({ ...query, source: blue })).toEqual(["10.64.0.1"]);
  expect(await client.resolve({ ...query, source: red, tcp: false })).toEqual(["10.64.0.1"]);
  idle.kill("SIGKILL");
});

it("a network has 2,000 queries per second, and another one has answers meanwhile", async () => {
  const names = [addressOf("web", "10.64.0.1")];
  await apply(tableOf({ [red]: names, [blue]: names }));
  const modest = startQueries(blue, 500);
  const flood = startQueries(red, 8_000);
  try {
    await waitUntil(
      "the server drops queries",
      async () => (await count("num.queries_ip_ratelimited")) > 2_000,
    );
    expect(await askName(blue, "web")).toEqual(["10.64.0.1"]);
    flood.kill("SIGKILL");
    const dropped = await count("num.queries_ip_ratelimited");
    await delay(1_500);
    expect(await count("num.queries_ip_ratelimited")).toBe(dropped);
  } finally {
    for (const each of [modest, flood]) each.kill("SIGKILL");
  }
});

it("queries that wait for a resolver are bounded, and delay no quick one of another network", async () => {
  const slow = await startSlowResolver("127.0.0.8");
  resolvers = ["127.0.0.8"];
  // Later releases of unbound permit 1,000 waiting queries of one address.
  const noisy = Array.from({ length: 6 }, (_, index) => `198.19.17.${index}`);
  for (const each of noisy)
    await run("ip", ["-n", namespace, "address", "add", `${each}/32`, "dev", "lo"]);
  await apply(tableOf(Object.fromEntries([blue, ...noisy].map((each) => [each, []]))));
  const floods = noisy.map((each) => startQueries(each, 300));
  try {
    const isFull = async () => (await count("requestlist.overwritten")) > 100;
    await waitUntil("slow queries replace others", isFull);
    const longest = await count("requestlist.max");
    expect(longest).toBeGreaterThan(2_048);
    expect(longest).toBeLessThanOrEqual(4_096);
    for (const name of ["one", "two", "three"])
      expect(await ask(blue, `${name}.example.com`)).toEqual(["192.0.2.8"]);
  } finally {
    for (const each of [...floods, slow]) each.kill("SIGKILL");
  }
});

it("names resolve soon after an outage of the resolver, even if it never answers others", async () => {
  const slow = await startSlowResolver("127.0.0.8");
  resolvers = ["127.0.0.8"];
  await apply(tableOf({ [red]: [], [blue]: [] }));
  expect(await ask(blue, "before.example.com")).toEqual(["192.0.2.8"]);
  const flood = startQueries(red, 20);
  try {
    slow.kill("SIGSTOP");
    await delay(outageMs);
    slow.kill("SIGCONT");
    let number = 0;
    const isResolved = async () => {
      number += 1;
      return Array.isArray(await ask(blue, `after-${number}.example.com`));
    };
    await waitUntil("a name resolves", isResolved, { deadlineMs: 12_000 });
  } finally {
    for (const each of [flood, slow]) each.kill("SIGKILL");
  }
});

describe("apply", () => {
  it("changes a name before it returns, and at no time is a name missing", async () => {
    const table = (round: number) =>
      tableOf({
        [red]: [addressOf("stable", "10.64.0.1"), addressOf("web", `10.64.1.${round}`)],
        [blue]: [],
      });
    await apply(table(0));
    const answers: unknown[] = [];
    const progress = { isDone: false };
    const second = startDnsClient(["ip", "netns", "exec", namespace]);
    const asking = (async () => {
      while (!progress.isDone) {
        await delay(1); // the server limits the queries of a network
        for (const name of ["stable", "web"])
          answers.push(
            await second.resolve({ server: address, source: red, name: `${name}.berth.internal` }),
          );
      }
    })();
    for (let round = 1; round <= 20; round += 1) {
      await server.apply(table(round), signal);
      expect(await askName(red, "web")).toEqual([`10.64.1.${round}`]);
    }
    progress.isDone = true;
    await asking;
    second.close();
    expect(answers.length).toBeGreaterThan(20);
    expect(answers.filter((answer) => !Array.isArray(answer) || answer.length !== 1)).toEqual([]);
  });

  it("adds and removes networks, and their files", async () => {
    await apply(tableOf({ [red]: [addressOf("web", "10.64.0.1")] }));
    const both = {
      [red]: [addressOf("web", "10.64.0.1")],
      [blue]: [addressOf("web", "10.64.0.2")],
    };
    await server.apply(tableOf(both), signal);
    await waitUntil("the new network has names", async () => {
      expect(await askName(blue, "web")).toEqual(["10.64.0.2"]);
      return true;
    });
    await server.apply(tableOf({ [blue]: both[blue] ?? [] }), signal);
    expect(await askName(blue, "web")).toEqual(["10.64.0.2"]);
    expect((await readdir(`${unit.folder}/zones`)).sort()).toEqual([
      "first.zone",
      "last.zone",
      "net_198_19_16_3.zone",
      "tnt_1.zone",
    ]);
    await server.apply(tableOf(both), signal);
    await waitUntil("the network is back", async () => {
      expect(await askName(red, "web")).toEqual(["10.64.0.1"]);
      return true;
    });
  });

  it("uses the new resolvers of the host", async () => {
    resolvers = ["127.0.0.6"];
    const table = tableOf({ [red]: [] });
    await apply(table);
    resolvers = [outside];
    await server.apply(table, signal);
    await waitUntil("the new resolver answers", async () => {
      expect(await ask(red, "www.example.com")).toEqual(["192.0.2.7"]);
      return true;
    });
  });
});

it("a resolver that has left gets no queries", async () => {
  const second = "127.0.0.6";
  resolvers = [outside, second];
  const table = tableOf({ [red]: [] });
  await apply(table);
  resolvers = [outside];
  await server.apply(table, signal);
  const listForwards = ["-c", `${unit.folder}/control.conf`, "list_forwards"];
  await waitUntil("the resolver has left", async () => {
    const inNamespace = ["netns", "exec", namespace, "unbound-control", ...listForwards];
    const { stdout } = await run("ip", inNamespace);
    expect(stdout).toContain(outside);
    expect(stdout).not.toContain(second);
    return true;
  });
});

describe("the server", () => {
  const table = tableOf({ [red]: [addressOf("web", "10.64.0.1")] });

  it("answers again after it was killed, without a call, and has changes that were written meanwhile", async () => {
    await apply(table);
    process.kill(await unit.findPid(), "SIGKILL");
    await waitUntil("it answers again", async () => {
      expect(await askName(red, "web")).toEqual(["10.64.0.1"]);
      return true;
    });
    process.kill(await unit.findPid(), "SIGKILL");
    const changed = tableOf({ [red]: [addressOf("web", "10.64.0.2")] });
    await expect(server.apply(changed, signal)).rejects.toThrow("does not answer");
    await waitUntil("it has the change", async () => {
      expect(await askName(red, "web")).toEqual(["10.64.0.2"]);
      return true;
    });
    await apply(changed);
  });

  it("keeps its names while another process of the driver applies the same table", async () => {
    await apply(table);
    server = open();
    await server.apply(table, signal);
    await waitUntil("it has its names", async () => {
      expect(await askName(red, "web")).toEqual(["10.64.0.1"]);
      return true;
    });
  });

  it("gets its files again after someone has removed them", async () => {
    await apply(table);
    await rm(unit.folder, { recursive: true });
    process.kill(await unit.findPid(), "SIGKILL");
    await apply(table);
    await waitUntil("it answers again", async () => {
      expect(await askName(red, "web")).toEqual(["10.64.0.1"]);
      return true;
    });
  });

  it("has served once it has answered, even if a later process asks", async () => {
    expect(await server.hasServed()).toBe(false);
    await apply(table);
    expect([await server.hasServed(), await open().hasServed()]).toEqual([true, true]);
  });

  it("keeps its files readable for root and itself only", async () => {
    await apply(table);
    const { stdout } = await run("find", [unit.folder, "-perm", "/o+rwx", "!", "-type", "s"]);
    expect(stdout).toBe("");
    expect(await readFile(`${unit.folder}/zones/first.zone`, "utf8")).toContain("CNAME .");
  });

  it("refuses invalid records, and then has the earlier names", async () => {
    await apply(table);
    for (const record of [
      addressOf("a b", "10.64.0.1"),
      addressOf("*", "10.64.0.1"),
      addressOf("web", "10.64.0.1\n* CNAME ."),
    ])
      await expect(server.apply(tableOf({ [red]: [record] }), signal)).rejects.toThrow(
        "The name server accepts no",
      );
    expect(await askName(red, "web")).toEqual(["10.64.0.1"]);
  });
});
