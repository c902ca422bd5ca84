import { parseArgs } from "node:util";
import { measureEndpoints } from "./network-endpoints.ts";
import { emptyHost, startNetworkHosts } from "./network-hosts.ts";
import { measureOneHost, measureTwoHosts } from "./network-paths.ts";
import { measureRules } from "./network-rules.ts";
import { measureServiceAddress } from "./network-service-address.ts";
import { measureStarts } from "./network-starts.ts";

/**
 * The networks of Berth beside what Docker has. Each host is a network namespace of this machine
 * with a Docker daemon, an Open vSwitch and a network driver of its own. The Open vSwitch uses its
 * netdev datapath: the kernel of the machine may lack the module of the other one.
 *
 * `--only starts,paths` runs only these parts; see `parts`.
 */

const ONE_ROUNDS = 15;
const TEN_ROUNDS = 5;
const PATH_ROUNDS = 5;
const PATH_SECONDS = 2;
const CONNECTION_ROUNDS = 5;
const CONNECTIONS = 2_000;
const ENDPOINT_CHANGES = 200;
const RULES = { sets: 100, rounds: 5, changes: 20 };

const parts = ["starts", "paths", "service-address", "endpoints", "rules"] as const;
type Part = (typeof parts)[number];

export async function run(
  options: { args?: readonly string[] } = {},
): Promise<Record<string, unknown>> {
  const { values } = parseArgs({
    args: [...(options.args ?? [])],
    strict: false,
    options: {
      only: { type: "string" },
      rounds: { type: "string" },
      "ten-rounds": { type: "string" },
      "path-rounds": { type: "string" },
      changes: { type: "string" },
    },
  });
  const wanted = typeof values.only === "string" ? values.only.split(",") : parts;
  const has = (part: Part) => wanted.includes(part);
  const numberOf = (name: string, otherwise: number) => Number(values[name] ?? otherwise);
  const result: Record<string, unknown> = {};
  const hosts = await startNetworkHosts();
  try {
    if (has("starts")) {
      const rounds = {
        oneRounds: numberOf("rounds", ONE_ROUNDS),
        tenRounds: numberOf("ten-rounds", TEN_ROUNDS),
      };
      const { attachAddedP50Ms, tenAtOnceAddedRatio, ...starts } = await measureStarts(
        hosts.first,
        rounds,
      );
      Object.assign(result, { attachAddedP50Ms, tenAtOnceAddedRatio, starts });
    }
    if (has("paths")) {
      const options = { rounds: numberOf("path-rounds", PATH_ROUNDS), seconds: PATH_SECONDS };
      result["oneHost"] = await measureOneHost(hosts, options);
      result["twoHosts"] = await measureTwoHosts(hosts, options);
    }
    if (has("service-address"))
      result["serviceAddress"] = await measureServiceAddress(hosts, {
        rounds: numberOf("path-rounds", CONNECTION_ROUNDS),
        connections: CONNECTIONS,
      });
    await Promise.all([emptyHost(hosts.first), emptyHost(hosts.second)]);
    if (has("endpoints")) {
      const changes = numberOf("changes", ENDPOINT_CHANGES);
      const { endpointP99Ms, ...endpoints } = await measureEndpoints(hosts.first, changes);
      Object.assign(result, { endpointP99Ms, endpoints });
    }
  } finally {
    await hosts.close();
  }
  if (has("rules")) Object.assign(result, await measureRules(RULES));
  return result;
}
