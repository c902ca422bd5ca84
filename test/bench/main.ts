/** `npm run bench -- NAME [options] [--json]`: figures for users, then one line of JSON. */

type Benchmark = (options: { args: readonly string[] }) => Promise<Record<string, unknown>>;

const benchmarks: Record<string, () => Promise<{ run: Benchmark }>> = {
  "placement-core": () => import("./placement-core.ts"),
  "placement-durable": () => import("./placement-durable.ts"),
  api: () => import("./api.ts"),
  packing: () => import("./packing.ts"),
  network: () => import("./network.ts"),
  "set-start": () => import("./set-start.ts"),
  "volume-start": () => import("./volume-start.ts"),
  resize: () => import("./resize.ts"),
  "big-service": () => import("./big-service.ts"),
  idle: () => import("./idle.ts"),
  "agent-overhead": () => import("./agent-overhead.ts"),
  density: () => import("./density.ts"),
  "network-rules": () => import("./network-rules.ts"),
  "connection-pools": () => import("./connection-pools.ts"),
};

const [name = "", ...args] = process.argv.slice(2);
const load = benchmarks[name];
if (load) {
  const { run } = await load();
  const isJson = args.includes("--json");
  const result = await run({ args: args.filter((argument) => argument !== "--json") });
  process.stdout.write(`${JSON.stringify(result, undefined, isJson ? undefined : 2)}\n`);
} else {
  process.stderr.write(
    `usage: npm run bench -- NAME [--json]\nbenchmarks: ${Object.keys(benchmarks).join(", ")}\n`,
  );
  process.exitCode = 2;
}
