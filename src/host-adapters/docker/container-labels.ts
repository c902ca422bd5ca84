import type { LocalSetSpec, StopSignalSource } from "../../agent/model/local-set.ts";
import { specHash } from "../../agent/model/spec-hash.ts";
import type { ListedContainer } from "../../agent/ports/container-port.ts";
import type { ListedAnswer } from "./docker-answers.ts";

/**
 * The labels of Berth's containers. They have all facts that the agent needs about a container
 * without its spec. A container without them, or with another host's id, is foreign.
 */
export const labels = {
  host: "berth.host",
  set: "berth.set",
  tenant: "berth.tenant",
  service: "berth.service",
  container: "berth.container",
  generation: "berth.generation",
  spec: "berth.spec",
  restart: "berth.restart",
  index: "berth.index",
  stopSignal: "berth.stop-signal",
} as const;

/**
 * Set ids become cgroup paths and container names. A label that cannot be an id makes the container
 * foreign.
 */
const setIdPattern = /^[a-z0-9_]{1,64}$/;

export function dockerName(setId: string, container: string): string {
  return `berth-${setId}-${container}`;
}

export function labelsFor(
  hostId: string,
  set: LocalSetSpec,
  container: { name: string; index: number },
): Record<string, string> {
  return {
    [labels.host]: hostId,
    [labels.set]: set.setId,
    [labels.tenant]: set.tenant,
    [labels.service]: set.service,
    [labels.container]: container.name,
    [labels.generation]: String(set.generation),
    [labels.spec]: specHash(set, container.name),
    [labels.restart]: String(set.restartGeneration),
    [labels.index]: String(container.index),
  };
}

/** Undefined for a container that does not belong to this host's sets. */
export function parseListed(hostId: string, info: ListedAnswer): ListedContainer | undefined {
  const setId = info.Labels[labels.set] ?? "";
  const name = info.Labels[labels.container] ?? "";
  if (info.Labels[labels.host] !== hostId || !setIdPattern.test(setId) || name === "") {
    return undefined;
  }
  return {
    dockerId: info.Id,
    setId,
    tenant: info.Labels[labels.tenant] ?? "",
    name,
    index: toInteger(info.Labels[labels.index]),
    generation: toInteger(info.Labels[labels.generation]),
    specHash: info.Labels[labels.spec] ?? "",
    restartGeneration: toInteger(info.Labels[labels.restart]),
    stopSignalSource: toStopSignalSource(info.Labels[labels.stopSignal]),
    dockerState: info.State,
    infraId: /^container:(.+)$/.exec(info.HostConfig.NetworkMode)?.[1],
    address: addressIn(info.NetworkSettings, info.HostConfig.NetworkMode),
  };
}

function toStopSignalSource(text: string | undefined): StopSignalSource | undefined {
  return text === "image" || text === "template" ? text : undefined;
}

/**
 * The address in the network that a container was created in. Undefined if the container does not
 * run, or uses another container's network.
 */
export function addressIn(
  settings: { Networks: Record<string, NetworkAddresses | null> } | null | undefined,
  networkMode: string | undefined,
): string | undefined {
  const networks = settings?.Networks ?? {};
  const first = networks[networkMode ?? ""];
  const found = [first, ...Object.values(networks)].find(
    (network) => network && (network.IPAddress !== "" || network.GlobalIPv6Address !== ""),
  );
  return found ? found.IPAddress || found.GlobalIPv6Address : undefined;
}

interface NetworkAddresses {
  IPAddress: string;
  GlobalIPv6Address: string;
}

/**
 * Returns 0 for text that is not an integer: a damaged label makes the container outdated, and does
 * not fail the agent.
 */
function toInteger(text: string | undefined): number {
  const value = Number(text);
  return Number.isSafeInteger(value) ? value : 0;
}
