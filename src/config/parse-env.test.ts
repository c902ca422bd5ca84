import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { inspect } from "node:util";
import { afterAll, describe, expect, it } from "vitest";
import { newEncryptionKey } from "../lib/keyring.ts";
import { loadAllInOneConfig } from "./all-in-one.ts";
import { loadApiConfig } from "./api.ts";
import { loadEdgeConfig } from "./edge.ts";
import { loadHostAgentConfig } from "./host-agent.ts";
import { loadJobWorkerConfig } from "./job-worker.ts";
import { loadMigrateConfig } from "./migrate.ts";
import { loadSimulatedHostsConfig } from "./simulated-hosts.ts";
import { ConfigError } from "./config-error.ts";
import type { Env } from "./parse-env.ts";

const backends = {
  DATABASE_URL: "postgres://berth:swordfish@db.example/berth",
  REDIS_URL: "redis://:swordfish@redis.example:6379/2",
};
const folder = mkdtempSync(path.join(tmpdir(), "berth-config-"));
afterAll(() => rmSync(folder, { recursive: true }));

function readProblems(load: (env: Env) => unknown, env: Env): string {
  try {
    load(env);
  } catch (error) {
    if (error instanceof ConfigError) return error.message;
    throw error;
  }
  return "";
}

describe("a configuration", () => {
  it("has safe defaults, and is immutable", () => {
    const config = loadApiConfig(backends);
    expect(config).toMatchObject({ BERTH_HOST: "127.0.0.1", BERTH_PORT: 7460 });
    expect(config.DATABASE_URL.reveal()).toBe(backends.DATABASE_URL);
    expect(Object.isFrozen(config)).toBe(true);
  });

  it("permits Docker's capabilities without NET_RAW, or those of the operator", () => {
    const { BERTH_CAPABILITIES_ALLOWED: standard } = loadApiConfig(backends);
    expect(standard).toContain("CHOWN");
    expect(standard).not.toContain("NET_RAW");
    const list = { BERTH_CAPABILITIES_ALLOWED: "NET_RAW, SYS_NICE" };
    expect(loadApiConfig({ ...backends, ...list }).BERTH_CAPABILITIES_ALLOWED).toEqual([
      "NET_RAW",
      "SYS_NICE",
    ]);
    const wrong = { ...backends, BERTH_CAPABILITIES_ALLOWED: "CAP_CHOWN" };
    expect(readProblems(loadApiConfig, wrong)).toContain("BERTH_CAPABILITIES_ALLOWED");
  });

  it("reads host ports, and refuses a range that a full host would use up", () => {
    const config = loadApiConfig({
      ...backends,
      BERTH_HOST_PORTS: "40000-47999",
      BERTH_FIXED_HOST_PORTS: "80, 8000-8100",
    });
    expect(config.BERTH_HOST_PORTS).toEqual({ first: 40_000, last: 47_999 });
    expect(config.BERTH_FIXED_HOST_PORTS).toEqual([
      { first: 80, last: 80 },
      { first: 8_000, last: 8_100 },
    ]);
    const none = { ...backends, BERTH_FIXED_HOST_PORTS: "none" };
    expect(loadApiConfig(none).BERTH_FIXED_HOST_PORTS).toEqual([]);
    for (const BERTH_HOST_PORTS of ["40000-47998", "47999-40000", "0-9000", "60000-70000", "x"]) {
      const problems = readProblems(loadApiConfig, { ...backends, BERTH_HOST_PORTS });
      expect(problems).toContain("BERTH_HOST_PORTS");
    }
    const wrong = { ...backends, BERTH_FIXED_HOST_PORTS: "80,,443" };
    expect(readProblems(loadApiConfig, wrong)).toContain("BERTH_FIXED_HOST_PORTS");
  });

  it("reads encryption keys, the newest first, and refuses others without their text", () => {
    const [first, second] = [newEncryptionKey(), newEncryptionKey()];
    for (const text of [`${first},${second}`, `${first}\n${second}\n`, `${first}, ${second}`]) {
      const { BERTH_ENCRYPTION_KEYS: keys } = loadApiConfig({
        ...backends,
        BERTH_ENCRYPTION_KEYS: text,
      });
      expect(keys?.map((key) => key.reveal())).toEqual([first, second]);
      expect(inspect(keys) + JSON.stringify(keys)).not.toContain(first);
    }
    for (const wrong of ["swordfish", `${first},swordfish`, ",", `${first}x`]) {
      const problems = readProblems(loadApiConfig, { ...backends, BERTH_ENCRYPTION_KEYS: wrong });
      expect(problems).toContain("BERTH_ENCRYPTION_KEYS");
      expect(problems).not.toContain("swordfish");
      expect(problems).not.toContain(first);
    }
  });

  it("never prints a secret, in any form", () => {
    const config = loadApiConfig({ ...backends, BERTH_ADMIN_TOKEN: "swordfish-and-more-of-it" });
    for (const text of [JSON.stringify(config), inspect(config), String(config.DATABASE_URL)]) {
      expect(text).not.toContain("swordfish");
      expect(text).toContain("[redacted]");
    }
  });

  it("accepts the variables that a shell exports for the command line", () => {
    const shell = {
      BERTH_API_URL: "https://berth.example",
      BERTH_TOKEN: "brt_0123456789abcdef",
      BERTH_TENANT: "food",
      BERTH_CONTEXT: "lab",
      BERTH_CONFIG: "/home/me/contexts.json",
      BERTH_DATA_DIR: "/var/lib/berth",
    };
    for (const load of [loadHostAgentConfig, loadSimulatedHostsConfig, loadMigrateConfig])
      expect(readProblems(load, { ...backends, ...shell })).toBe("");
  });

  it("accepts a database URL with several hosts, and refuses one with a bad host", () => {
    const load = (DATABASE_URL: string) => loadApiConfig({ ...backends, DATABASE_URL });
    const several = "postgres://berth:pass@db-1:5432,db-2:5433,[::1]:5434/berth?sslmode=require";
    expect(load(several).DATABASE_URL.reveal()).toBe(several);
    for (const bad of ["postgres://db-1,db-2:no/berth", "postgres://a,:1/b", "berth"])
      expect(() => load(bad)).toThrow("DATABASE_URL");
  });

  it("refuses an admin token that the API would refuse as a bearer", () => {
    const load = (length: number) =>
      loadApiConfig({ ...backends, BERTH_ADMIN_TOKEN: "x".repeat(length) });
    expect(load(256).BERTH_ADMIN_TOKEN?.reveal()).toHaveLength(256);
    expect(() => load(257)).toThrow(/BERTH_ADMIN_TOKEN/);
  });

  it("reports all invalid variables together, and no value", () => {
    const problems = readProblems(loadApiConfig, {
      DATABASE_URL: "mysql://swordfish",
      BERTH_PORT: "swordfish",
      BERTH_HOST_LOST_GRACE_MS: "-1",
      BERTH_REDIS_PREFIX: "sword fish",
      BERTH_ADMIN_TOKEN: "swordfish",
      BERTH_PROT: "80",
    });
    for (const name of [
      "DATABASE_URL",
      "REDIS_URL",
      "BERTH_PORT",
      "BERTH_HOST_LOST_GRACE_MS",
      "BERTH_REDIS_PREFIX",
      "BERTH_ADMIN_TOKEN",
      "BERTH_PROT ",
    ]) {
      expect(problems).toContain(name);
    }
    expect(problems).not.toContain("swordfish");
  });

  it.each([
    ["api", loadApiConfig],
    ["job-worker", loadJobWorkerConfig],
    ["all-in-one", loadAllInOneConfig],
  ] as const)("refuses unknown variables of %s", (_name, load) => {
    expect(readProblems(load, { ...backends, BERTH_PORTT: "1" })).toContain("BERTH_PORTT");
  });

  it("ignores variables of the command line and of other programs", () => {
    const env = {
      ...backends,
      BERTH_TOKEN: "x",
      BERTH_API_URL: "http://x",
      PGHOST: "x",
      HOME: "/",
    };
    expect(readProblems(loadApiConfig, env)).toBe("");
  });

  it("treats an empty variable as unset", () => {
    expect(loadApiConfig({ ...backends, BERTH_PORT: "", BERTH_UNKNOWN: "" }).BERTH_PORT).toBe(7460);
  });

  it.each([
    ["BERTH_PORT", "65536"],
    ["BERTH_PORT", "-1"],
    ["BERTH_PORT", "80.5"],
    ["BERTH_DATABASE_CONNECTIONS_MAX", "4"],
    ["BERTH_DATABASE_CONNECTIONS_MAX", "201"],
    ["BERTH_SHUTDOWN_TIMEOUT_MS", "99"],
    ["BERTH_LOST_HOSTS_PERCENT_MAX", "101"],
    ["BERTH_REPORT_AGE_MAX_MS", "4999"],
    ["BERTH_READY_JSON", "perhaps"],
    ["BERTH_LOG_LEVEL", "loud"],
    ["REDIS_URL", "http://redis.example"],
  ])("refuses for %s the value %s, which is out of bounds", (name, value) => {
    expect(readProblems(loadApiConfig, { ...backends, [name]: value })).toContain(name);
  });

  it.each(["false", "0", "no", "off"])("parses %j as false", (value) => {
    expect(loadAllInOneConfig({ BERTH_AGENT_ENABLED: value }).BERTH_AGENT_ENABLED).toBe(false);
  });
});

describe("a value in a file", () => {
  const file = path.join(folder, "database-url");
  writeFileSync(file, `${backends.DATABASE_URL}\n`);

  it("provides the value", () => {
    const { REDIS_URL } = backends;
    const config = loadApiConfig({ REDIS_URL, DATABASE_URL_FILE: file });
    expect(config.DATABASE_URL.reveal()).toBe(backends.DATABASE_URL);
  });

  it("is refused beside the value itself, because the intent is ambiguous", () => {
    const env = { ...backends, DATABASE_URL_FILE: file };
    expect(readProblems(loadApiConfig, env)).toContain("DATABASE_URL_FILE");
  });

  describe("an unreadable file", () => {
    const env = { REDIS_URL: backends.REDIS_URL, DATABASE_URL_FILE: path.join(folder, "none") };

    it("is an error that a restart may end, because a file may be mounted after the boot", () => {
      const load = () => loadApiConfig(env);
      expect(load).toThrow("DATABASE_URL_FILE names an unreadable file (ENOENT)");
      expect(load).not.toThrow(ConfigError);
      expect(load).not.toThrow("✖ DATABASE_URL\n");
    });

    it("is one problem among the invalid values, which no restart ends", () => {
      const problems = readProblems(loadApiConfig, { ...env, BERTH_PORT: "-1" });
      expect(problems).toContain("DATABASE_URL_FILE");
      expect(problems).toContain("BERTH_PORT");
      // The missing value is not a problem of its own.
      expect(problems).not.toContain("at DATABASE_URL\n");
      expect(problems.split("✖")).toHaveLength(3);
    });
  });
});

it("a Unix socket of Redis becomes a path for its client", () => {
  const config = loadApiConfig({ ...backends, REDIS_URL: "unix:///run/redis/redis.sock" });
  expect(config.REDIS_URL.reveal()).toBe("/run/redis/redis.sock");
});

it("a migration runs in the environment of the process that follows it", () => {
  expect(readProblems(loadMigrateConfig, { ...backends, BERTH_PORT: "1", BERTH_ODD: "1" })).toBe(
    "",
  );
});

it("all-in-one requires no variable", () => {
  expect(readProblems(loadAllInOneConfig, {})).toBe("");
});

it("ignores bindings other than text on the edge", () => {
  const config = loadEdgeConfig({ ...backends, ASSETS: { fetch: () => undefined } });
  expect(config.REDIS_URL.reveal()).toBe(backends.REDIS_URL);
});

it("every setting of a process is documented", () => {
  const documented = readFileSync(new URL("../../docs/configuration.md", import.meta.url), "utf8");
  const own = new URL("./", import.meta.url);
  const files = readdirSync(own).filter((file) => /^(?!cli)[a-z-]+\.ts$/.test(file));
  const names = files.flatMap((file) =>
    [...readFileSync(new URL(file, own), "utf8").matchAll(/^ {2}([A-Z][A-Z_]+):/gm)].map(
      ([, name]) => name ?? "",
    ),
  );
  expect(names.length).toBeGreaterThan(30);
  // BERTH_TOKEN is for simulated hosts of benchmarks, which are not operated.
  const missing = names.filter(
    (name) => name !== "BERTH_TOKEN" && !documented.includes(`\`${name}\``),
  );
  expect(missing).toEqual([]);
});
