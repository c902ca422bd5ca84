import { setMaxListeners } from "node:events";
import { parseArgs } from "node:util";
import { Agent as HttpAgent, request } from "undici";
import { z } from "zod";
import { defaultAgentLimits } from "../agent/base/agent-limits.ts";
import { runSimulatedHosts } from "./compose/simulated-hosts.ts";
import { loadSimulatedHostsConfig } from "../config/simulated-hosts.ts";
import { nameSchema } from "../contracts/common/primitives.ts";
import { CPU_MILLIS_MAX, sizeInput } from "../contracts/common/quantities.ts";
import { createLog } from "../lib/log.ts";
import { loadConfigOrExit, readVersion } from "./compose/run-process.ts";

/**
 * Simulated hosts against a real API, for benchmarks: see docs/cli.md, `berth bench hosts`. It
 * reports in JSON lines: {"enrolled":N} periodically, {"ready":true,"hosts":N} once all have
 * reported, and {"timeouts":N} for each late answer. The log goes to standard error.
 */
const EXIT_USAGE = 64;
const progressIntervalMs = 500;
const count = (most: number) => z.coerce.number().int().min(1).max(most);

const argumentsSchema = z.object({
  first: z.coerce.number().int().min(0).max(10_000_000).default(0),
  hosts: count(100_000),
  zones: count(1_000).default(3),
  racks: count(1_000).default(10),
  cores: z.coerce
    .number()
    .min(0.1)
    .max(CPU_MILLIS_MAX / 1_000)
    .default(64),
  memory: sizeInput.prefault("256Gi"),
  prefix: nameSchema.max(40).default("sim"),
  /** Long ones, for many hosts in one process, or those of a real agent. */
  intervals: z.enum(["long", "agent"]).default("long"),
});

const config = loadConfigOrExit(loadSimulatedHostsConfig);
const options = parseArguments();
const log = createLog({
  service: "simulated-hosts",
  version: readVersion(),
  level: config.BERTH_LOG_LEVEL,
  fileDescriptor: 2,
});
const stopping = new AbortController();
setMaxListeners(0, stopping.signal); // every enrollment adds a listener
for (const name of ["SIGTERM", "SIGINT"] as const) {
  process.on(name, () => {
    if (stopping.signal.aborted) process.exit(130);
    stopping.abort(new Error(`got ${name}`));
  });
}
process.exitCode = await main();

async function main(): Promise<number> {
  const apiUrl = config.BERTH_API_URL.replace(/\/+$/, "");
  const dispatcher = new HttpAgent({ connections: 16 });
  let reportedAtMs = 0;
  let timeouts = 0;
  try {
    await runSimulatedHosts({
      apiUrl,
      enrollToken: (name) =>
        createEnrollToken(dispatcher, { apiUrl, token: config.BERTH_TOKEN.reveal(), name }),
      ...options,
      allocatable: {
        cpuMillis: Math.round(options.cores * 1_000),
        memoryBytes: options.memory,
        volumeBytes: 2 ** 40,
        rootfsBytes: 2 ** 41,
      },
      ...(options.intervals === "agent" ? { limits: defaultAgentLimits } : {}),
      signal: stopping.signal,
      usageIntervalMs: config.BERTH_AGENT_USAGE_INTERVAL_MS,
      log,
      onProgress: (enrolled) => {
        if (performance.now() - reportedAtMs < progressIntervalMs) return;
        reportedAtMs = performance.now();
        report({ enrolled });
      },
      onReady: () => report({ ready: true, hosts: options.hosts }),
      onTimeout: () => report({ timeouts: ++timeouts }),
    });
    return 0;
  } catch (error) {
    log.error({ err: error }, "simulation failed");
    return 1;
  } finally {
    await dispatcher.destroy();
  }
}

function parseArguments(): z.output<typeof argumentsSchema> {
  const names = Object.keys(argumentsSchema.shape);
  try {
    const { values } = parseArgs({
      options: Object.fromEntries(names.map((name) => [name, { type: "string" as const }])),
    });
    return argumentsSchema.parse(values);
  } catch (error) {
    const detail = error instanceof z.ZodError ? z.prettifyError(error) : String(error);
    process.stderr.write(`simulated-hosts: ${detail}\n`);
    return process.exit(EXIT_USAGE);
  }
}

function report(line: object): void {
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

/** Creates an enroll token, which works once, so every host needs its own. */
async function createEnrollToken(
  dispatcher: HttpAgent,
  { apiUrl, token, name }: { apiUrl: string; token: string; name: string },
): Promise<string> {
  const response = await request(`${apiUrl}/v1/tokens`, {
    dispatcher,
    method: "POST",
    headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
    body: JSON.stringify({ name, role: "enroll", expiresInSeconds: 3_600 }),
    signal: stopping.signal,
  });
  const body: unknown = await response.body.json();
  if (response.statusCode >= 300) {
    throw new Error(
      `cannot create an enroll token (${response.statusCode}): ${JSON.stringify(body)}`,
    );
  }
  return z.object({ secret: z.string() }).parse(body).secret;
}
