import { measureEndpoints } from "./network-endpoints.ts";
import { emptyHost, startNetworkHosts } from "./network-hosts.ts";
import { measureOneHost, measureTwoHosts } from "./network-paths.ts";
import { measureRules } from "./network-rules.ts";
import { measureServiceAddress } from "./network-service-address.ts";
import { measureStarts } from "./network-starts.ts";
import { readOptions } from "./read-options.ts";

/**
 * The networks of Berth beside what Docker has. Each host is a network namespace of this machine
 * with a Docker daemon, an Open vSwitch and a network driver of its own. The Open vSwitch uses its
 * netdev datapath: the kernel of the machine may lack the module of the other one.
 *
 * `--only starts,paths` runs only these parts; see `parts`.
 */

const ONE_ROUNDS = 15;
const TEN_ROUNDS = 5;
/** Of the paths, and of the connections through a service address. */
const PATH_ROUNDS = 5;
const PATH_SECONDS = 2;
const CONNECTIONS = 2_000;
const ENDPOINT_CHANGES = 200;

const parts = ["starts", "paths", "service-address", "endpoints", "rules"] as const;
type Part = (typeof parts)[number];

export async function run(
  options: { args?: readonly string[] } = {},
): Promise<Record<string, unknown>> {
  const {
    only = parts.join(),
    rounds,
    changes,
    ...more
  } = readOptions(options.args, {
    only: undefined,
    rounds: ONE_ROUNDS,
    "ten-rounds": TEN_ROUNDS,
    "path-rounds": PATH_ROUNDS,
    changes: ENDPOINT_CHANGES,
  });
  const wanted = only.split(",");
  const unknown = wanted.find((name) => !parts.some((part) => part === name));
  if (unknown !== undefined) throw new Error(`unknown part "${unknown}" of: ${parts.join()}`);
  const has = (part: Part) => wanted.includes(part);
  const result: Record<string, unknown> = {};
  const hosts = await startNetworkHosts();
  try {
    if (has("starts")) {
      const { attachAddedP50Ms, tenAtOnceAddedRatio, ...starts } = await measureStarts(
        hosts.first,
        { oneRounds: rounds, tenRounds: more["ten-rounds"] },
      );
      Object.assign(result, { attachAddedP50Ms, tenAtOnceAddedRatio, starts });
    }
    if (has("paths")) {
      const pathOptions = { rounds: more["path-rounds"], seconds: PATH_SECONDS };
      result["oneHost"] = await measureOneHost(hosts, pathOptions);
      result["twoHosts"] = await measureTwoHosts(hosts, pathOptions);
    }
    if (has("service-address"))
      result["serviceAddress"] = await measureServiceAddress(hosts, {
        rounds: more["path-rounds"],
        connections: CONNECTIONS,
      });
    await Promise.all([emptyHost(hosts.first), emptyHost(hosts.second)]);
    if (has("endpoints")) {
      const { endpointP99Ms, ...endpoints } = await measureEndpoints(hosts.first, changes);
      Object.assign(result, { endpointP99Ms, endpoints });
    }
  } finally {
    await hosts.close();
  }
  if (has("rules")) Object.assign(result, await measureRules());
  return result;
}
