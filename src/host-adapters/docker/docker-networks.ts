import type Docker from "dockerode";
import { z } from "zod";
import { AgentError } from "../../agent/base/agent-error.ts";
import type { Attachment } from "../../contracts/agent-protocol/attachment.ts";
import { QUERY_SUBNET, toQueryAddress } from "../../contracts/network-driver/query-address.ts";
import {
  formatAddress,
  formatSubnet,
  parseAddress,
  parseSubnet,
  stripPrefixLength,
} from "../../lib/ip/ip-address.ts";
import { callDocker, dockerMessage, dockerStatus } from "./call-docker.ts";
import { parseAnswer } from "./docker-answers.ts";

const readTimeoutMs = 10_000;
/** Docker repeats a call to a driver that does not answer for 30 s. */
const changeTimeoutMs = 40_000;
const namePrefix = "berth-";
const networkLabel = "berth.network";

const optionsSchema = z
  .record(z.string(), z.string())
  .nullish()
  .transform((options) => options ?? {});
const networkAnswer = z.object({
  Name: z.string(),
  Driver: z.string(),
  Options: optionsSchema,
  Labels: optionsSchema,
  IPAM: z.object({
    Config: z
      .array(z.object({ Subnet: z.string().default(""), Gateway: z.string().default("") }))
      .nullish()
      .transform((configs) => configs ?? []),
  }),
});
type NetworkAnswer = z.output<typeof networkAnswer>;
const networksAnswer = z.array(z.object({ Name: z.string(), Labels: optionsSchema }));
const usersAnswer = z.array(z.object({ Id: z.string() }));
const containersAnswer = z.array(
  z.object({
    NetworkSettings: z
      .object({ Networks: z.record(z.string(), z.unknown()).nullish() })
      .nullish()
      .transform((settings) => Object.keys(settings?.Networks ?? {})),
  }),
);

/** The Docker networks of the network driver, each for one network of Berth. */
export interface DockerNetworks {
  /** Ensures that the network of the attachment exists, and returns its name in Docker. */
  ensure(attachment: Attachment, signal: AbortSignal): Promise<string>;
  /** The ids of the networks that Berth created in this Docker. */
  list(signal: AbortSignal): Promise<string[]>;
  /** The ids of all networks that a container uses, running or not. */
  listUsed(signal: AbortSignal): Promise<Set<string>>;
  /** Deletes a network unless a container uses it, running or not. Returns false if one does. */
  removeUnused(networkId: string, signal: AbortSignal): Promise<boolean>;
}

/** @param plugin the name of the network driver in Docker */
export function createDockerNetworks(docker: Docker, plugin: string): DockerNetworks {
  return {
    async ensure(attachment, signal) {
      const name = nameOf(attachment.networkId);
      const existing = await inspect(docker, name, signal);
      if (!existing) await create(docker, plugin, attachment, signal);
      const difference = existing && findDifference(existing, attachment, plugin);
      if (difference !== undefined) {
        const isOurs = existing?.Labels[networkLabel] === attachment.networkId;
        if (!isOurs || !(await removeUnused(docker, attachment.networkId, signal)))
          throw conflict(name, difference);
        await create(docker, plugin, attachment, signal);
      }
      return name;
    },
    async list(signal) {
      const answer = await callDocker(
        { phase: "remove", timeoutMs: readTimeoutMs },
        signal,
        (abortSignal) =>
          docker.listNetworks({
            filters: { driver: [plugin], label: [networkLabel] },
            abortSignal,
          }),
      );
      const call = { call: "GET /networks", phase: "remove" } as const;
      const networks = parseAnswer(networksAnswer, answer, call);
      return networks
        .filter(({ Name, Labels }) => Name === nameOf(Labels[networkLabel] ?? ""))
        .map(({ Labels }) => Labels[networkLabel] ?? "");
    },
    async listUsed(signal) {
      const answer = await callDocker(
        { phase: "remove", timeoutMs: readTimeoutMs },
        signal,
        (abortSignal) => docker.listContainers({ all: true, abortSignal }),
      );
      const call = { call: "GET /containers/json", phase: "remove" } as const;
      const names = parseAnswer(containersAnswer, answer, call).flatMap(
        ({ NetworkSettings }) => NetworkSettings,
      );
      return new Set(
        names.flatMap((name) =>
          name.startsWith(namePrefix) ? [name.slice(namePrefix.length)] : [],
        ),
      );
    },
    removeUnused: (networkId, signal) => removeUnused(docker, networkId, signal),
  };
}

function nameOf(networkId: string): string {
  return `${namePrefix}${networkId}`;
}

async function inspect(
  docker: Docker,
  name: string,
  signal: AbortSignal,
): Promise<NetworkAnswer | undefined> {
  try {
    const answer: unknown = await callDocker(
      { phase: "prepare", timeoutMs: readTimeoutMs },
      signal,
      () => docker.getNetwork(name).inspect(),
    );
    return parseAnswer(networkAnswer, answer, { call: "GET /networks/{id}", phase: "prepare" });
  } catch (error) {
    if (dockerStatus(error) === 404) return undefined;
    throw error;
  }
}

async function create(
  docker: Docker,
  plugin: string,
  attachment: Attachment,
  signal: AbortSignal,
): Promise<void> {
  const { networkId, vni, mtu } = attachment;
  const subnets = subnetsOf(attachment);
  const options = {
    Name: nameOf(networkId),
    CheckDuplicate: true,
    Driver: plugin,
    EnableIPv4: subnets.some(({ cidr }) => !cidr.includes(":")),
    EnableIPv6: subnets.some(({ cidr }) => cidr.includes(":")),
    IPAM: {
      Driver: plugin,
      Config: subnets.map(({ cidr, gateway }) => ({ Subnet: cidr, Gateway: gateway })),
    },
    Options: {
      "berth.network": networkId,
      "berth.vni": String(vni),
      ...(mtu === undefined ? {} : { "berth.mtu": String(mtu) }),
    },
    Labels: { [networkLabel]: networkId },
  };
  try {
    await callDocker({ phase: "prepare", timeoutMs: changeTimeoutMs }, signal, (abortSignal) =>
      docker.createNetwork({ ...options, abortSignal }),
    );
  } catch (error) {
    const status = dockerStatus(error);
    if (status === 409) {
      // Someone created it meanwhile.
      const existing = await inspect(docker, options.Name, signal);
      const difference = existing && findDifference(existing, attachment, plugin);
      if (existing && difference === undefined) return;
      throw difference === undefined ? error : conflict(options.Name, difference);
    }
    if (status === undefined) throw error;
    throw explain(error, plugin);
  }
}

function explain(error: unknown, plugin: string): AgentError {
  const detail = dockerMessage(error);
  const isMissing = /plugin .*not found|error looking up .*plugin/i.test(detail);
  const message = isMissing
    ? `the network driver of this host does not run: Docker has no plugin "${plugin}"`
    : `the network of the set cannot be created: ${detail}`;
  return new AgentError("network-failed", message, {
    phase: "prepare",
    temporary: true,
    cause: error,
  });
}

function conflict(name: string, difference: string): AgentError {
  const message = `the Docker network ${name} has ${difference}. Remove its containers and then the network, so that Berth creates it again.`;
  return new AgentError("network-conflict", message, { phase: "prepare", temporary: true });
}

/**
 * Describes why the existing network does not serve the attachment. Returns undefined if it does.
 * It may have a further subnet. An attachment without an MTU accepts any.
 */
function findDifference(
  { Driver, Options, IPAM }: NetworkAnswer,
  attachment: Attachment,
  plugin: string,
): string | undefined {
  if (Driver !== plugin) return `the driver ${Driver} and not ${plugin}`;
  const wanted = {
    "berth.network": attachment.networkId,
    "berth.vni": String(attachment.vni),
    ...(attachment.mtu === undefined ? {} : { "berth.mtu": String(attachment.mtu) }),
  };
  for (const [name, value] of Object.entries(wanted))
    if (Options[name] !== value) return `${name}=${Options[name] ?? ""} and not ${value}`;
  const known = new Map(IPAM.Config.map(({ Subnet, Gateway }) => [Subnet, canonical(Gateway)]));
  for (const { cidr, gateway } of subnetsOf(attachment)) {
    if (!known.has(cidr)) return `the subnets ${[...known.keys()].join(", ")} and not ${cidr}`;
    if (known.get(cidr) !== gateway)
      return `the gateway ${known.get(cidr)} and not ${gateway ?? "none"}`;
  }
  return undefined;
}

interface DockerSubnet {
  cidr: string;
  gateway?: string;
}

/** Without an IPv4 subnet, it has that of queries: see QUERY_SUBNET. */
function subnetsOf({ addresses, gateways }: Attachment): DockerSubnet[] {
  const subnets = addresses.map((text, place): DockerSubnet => {
    const subnet = parseSubnet(text);
    if (!subnet) throw new RangeError(`${text} lacks a prefix length`);
    const gateway = gateways[place];
    return { cidr: formatSubnet(subnet), ...(gateway === undefined ? {} : { gateway }) };
  });
  const [gateway] = gateways;
  if (gateway === undefined || subnets.some(({ cidr }) => !cidr.includes(":"))) return subnets;
  return [...subnets, { cidr: QUERY_SUBNET, gateway: toQueryAddress(gateway) }];
}

/** Returns the canonical form of an address. Docker returns it as its creator wrote it. */
function canonical(text: string): string | undefined {
  const address = parseAddress(stripPrefixLength(text));
  return address && formatAddress(address);
}

async function removeUnused(
  docker: Docker,
  networkId: string,
  signal: AbortSignal,
): Promise<boolean> {
  const name = nameOf(networkId);
  const call = { phase: "remove", timeoutMs: readTimeoutMs } as const;
  // Docker refuses only a network with a running container.
  const listed = await callDocker(call, signal, (abortSignal) =>
    docker.listContainers({ all: true, filters: { network: [name] }, abortSignal }),
  );
  const users = parseAnswer(usersAnswer, listed, {
    call: "GET /containers/json",
    phase: "remove",
  });
  if (users.length > 0) return false;
  try {
    await callDocker({ ...call, timeoutMs: changeTimeoutMs }, signal, (abortSignal) =>
      docker.getNetwork(name).remove({ abortSignal }),
    );
    return true;
  } catch (error) {
    if (dockerStatus(error) === 404) return true;
    if (dockerStatus(error) === 403) return false;
    throw error;
  }
}
