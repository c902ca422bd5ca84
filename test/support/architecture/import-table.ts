/**
 * The permitted imports of one folder of src. Test files may also import vitest, fast-check, node:
 * and the test support.
 */
interface ImportRule {
  /** Folders of src, or single files of them. */
  src: readonly string[];
  /** Folders or files of which only types may be imported. */
  srcTypes?: readonly string[];
  /** Folders or files of src that only its test files may import. */
  srcOfTests?: readonly string[];
  /** Packages, each with everything under it. */
  packages: readonly string[];
  /** Node's built-in modules; "all" for any. */
  node: "all" | readonly string[];
}

/** Built-in modules that exist on the edge (Cloudflare Workers) too. */
const edgeBuiltins = ["crypto", "timers/promises", "buffer", "util", "async_hooks", "events"];

/**
 * States what each folder of `src` may import. A folder imports no package that its row does not
 * list. Add one with a reason.
 */
export const importTable: Readonly<Record<string, ImportRule>> = {
  lib: {
    src: [],
    packages: ["pino", "zod", "prom-client", "@opentelemetry/api", "ipaddr.js"],
    node: "all",
  },
  contracts: { src: ["lib"], packages: ["zod"], node: [] },
  config: { src: ["contracts", "lib"], packages: ["zod"], node: ["fs", "os", "path"] },
  scheduler: { src: ["lib/assert.ts"], srcTypes: ["contracts"], packages: [], node: [] },
  db: {
    src: ["contracts", "lib"],
    packages: ["drizzle-orm", "postgres", "@electric-sql/pglite", "zod"],
    node: "all",
  },
  control: {
    src: ["db", "scheduler", "contracts", "lib"],
    packages: ["zod", "prom-client"],
    node: edgeBuiltins,
  },
  routes: {
    src: ["control", "contracts", "lib", "console"],
    packages: ["hono", "@hono/zod-openapi", "zod", "prom-client"],
    node: edgeBuiltins,
  },
  redis: {
    src: ["control", "contracts", "lib"],
    packages: ["ioredis", "zod", "prom-client"],
    node: edgeBuiltins,
  },
  jobs: {
    src: ["control", "redis", "contracts", "lib"],
    packages: ["bullmq", "ioredis", "zod", "prom-client"],
    node: edgeBuiltins,
  },
  agent: {
    src: ["contracts", "lib"],
    srcOfTests: ["host-adapters/simulated", "host-adapters/machine"],
    packages: [],
    node: ["crypto", "events"],
  },
  "network-driver": { src: ["contracts", "lib"], packages: ["zod"], node: [] },
  "host-adapters": {
    src: ["agent/base", "agent/model", "agent/ports", "network-driver/ports", "contracts", "lib"],
    srcOfTests: ["agent"],
    packages: ["dockerode", "tar-stream", "undici", "zod", "prom-client"],
    node: "all",
  },
  console: { src: ["contracts", "lib"], packages: ["hono", "zod"], node: [] },
  cli: {
    src: ["contracts", "lib"],
    packages: ["commander", "cli-table3", "eventsource-parser", "undici", "yaml", "zod"],
    node: "all",
  },
};

const agentOrder = [
  "base",
  "model",
  "ports",
  "engine",
  "set",
  "housekeeping",
  "reporting",
  "streams",
  "loop",
] as const;
/** Folders that implement the ports. No one of them imports another one. */
const adapters = [
  "docker",
  "cgroups",
  "volumes",
  "machine",
  "state-file",
  "control-plane-client",
  "simulated",
  "ovs",
  "links",
  "network-driver-client",
  "unbound",
] as const;

/**
 * For each second-level folder of these folders of `src`: the other folders and files of the same
 * folder that it may import. Their test files may import all of them.
 */
export const siblingTable: Readonly<Record<string, Readonly<Record<string, readonly string[]>>>> = {
  agent: {
    ...Object.fromEntries(agentOrder.map((name, place) => [name, agentOrder.slice(0, place)])),
    // The engine and the pure decision about a set do not know each other.
    engine: ["base", "model", "ports"],
    set: ["base", "model", "ports"],
  },
  "network-driver": {
    model: [],
    ports: [],
    flows: [],
    names: ["ports"],
    endpoints: ["model", "ports", "flows"],
    docker: ["model", "ports", "endpoints"],
    control: [],
  },
  "host-adapters": Object.fromEntries(adapters.map((name) => [name, ["exec.ts"]])),
};

/** Composition roots: they import everything, and no folder imports them. */
export const compositionRoot = "main";
