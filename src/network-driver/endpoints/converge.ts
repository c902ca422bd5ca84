import { nameServerAddress } from "../flows/compile-flows.ts";
import { GATEWAY_MAC, UPLINK_MAC } from "../flows/flow.ts";
import { DriverError } from "../model/driver-error.ts";
import type { Endpoint } from "../model/driver-records.ts";
import { readExternalIds } from "../model/external-ids.ts";
import type { ListedLink } from "../ports/link-port.ts";
import { type ListedPort, TUNNEL_PORT } from "../ports/switch-port.ts";
import { addPort } from "./attach-endpoint.ts";
import type { DriverContext } from "./driver-context.ts";
import { type EndpointTask, runInBatches } from "./run-in-batches.ts";

/**
 * Docker joins an endpoint within milliseconds of its creation, or within 30 s if the driver dies
 * in between. The join restarts this time, and Docker moves the link within milliseconds. It
 * removes the endpoint when its container ends. So an endpoint that has no container after this
 * time was left by a crash. If Docker still joins it, that start fails and the next one succeeds.
 */
const UNUSED_ENDPOINT_MS = 60_000;

interface Observed {
  ports: ReadonlyMap<string, ListedPort>;
  links: ReadonlyMap<string, ListedLink>;
}

export interface Convergence {
  /** Interfaces of containers that it can neither identify nor remove. */
  unknownInterfaces: string[];
  /** The errors of single corrections, which the next convergence repeats. */
  errors: unknown[];
  /** Calls of Docker were changing some endpoints, which the next convergence compares. */
  hasOmitted: boolean;
}

/**
 * Brings records, links and switch ports into agreement. The links are the source of truth: the
 * kernel removes a link with its container's namespace. One failed correction prevents no other.
 * Rejects if Open vSwitch is down, or if it cannot list links or ports.
 *
 * - It adds the missing port of a link whose container's end is in a container.
 * - It removes the port of a link that has vanished, and endpoints that stay without a container.
 * - It removes ports and links without a record, unless a container has the other end. Then the
 *   state file was lost, and it rebuilds the record from the external ids of the port.
 *
 * Calls of Docker may run meanwhile, so its first list may be stale. Under the locks of a batch of
 * endpoints, it observes and decides again before it changes anything. Its corrections have a
 * separate limit, so that calls of Docker never queue behind them.
 */
export async function converge(ctx: DriverContext, signal: AbortSignal): Promise<Convergence> {
  const errors: unknown[] = [];
  try {
    await ctx.switchPort.ensureBridge(signal);
  } catch (error) {
    if (!(await ctx.switchPort.isUp(signal))) throw error;
    errors.push(error);
  }
  const observed = await observe(ctx, signal);
  ctx.flows.compareWith([...observed.ports.values()]);
  const hasUplink = observed.ports.has(ctx.names.uplink.switchEnd);
  const uplinkDone = ensureUplink(ctx, hasUplink, signal).catch((error: unknown) =>
    errors.push(error),
  );
  const tunnel = observed.ports.get(TUNNEL_PORT);
  if (tunnel && tunnel.ofPort === undefined) {
    const reason = tunnel.error ?? "Open vSwitch has not opened it yet";
    errors.push(new DriverError(`The port ${TUNNEL_PORT} to other hosts is closed: ${reason}.`));
  }
  const known = [...ctx.records.endpoints.keys()];
  const knownHostEnds = new Set(known.map((endpointId) => ctx.names.nameEnds(endpointId).hostEnd));
  const unknown = [...new Set([...observed.ports.keys(), ...observed.links.keys()])].filter(
    (name) => ctx.names.isHostEnd(name) && !knownHostEnds.has(name),
  );
  const different = known.filter((endpointId) => decide(ctx, endpointId, observed) !== "none");
  const done = await runInBatches(
    { lock: ctx.lock, limit: ctx.correctionLimit, observe: () => observe(ctx, signal) },
    [
      // First the records, from which the flows of running containers are compiled.
      ...unknown.map((name) => toAdoptionTask(ctx, name, observed, signal)),
      ...different.map((endpointId) => toCorrectionTask(ctx, endpointId, signal)),
    ],
    signal,
  );
  await uplinkDone;
  if (!signal.aborted) ctx.flows.completeRecords();
  return {
    unknownInterfaces: done.results.filter((name) => name !== undefined).sort(),
    errors: [...errors, ...done.errors],
    hasOmitted: done.hasOmitted,
  };
}

async function ensureUplink(
  { uplink, flows, names, links, switchPort, mtu }: DriverContext,
  hasPort: boolean,
  signal: AbortSignal,
): Promise<void> {
  const { switchEnd, routingEnd } = names.uplink;
  if (!uplink) {
    if (!hasPort) return;
    await switchPort.removePort(switchEnd, signal);
    await links.remove(switchEnd, signal);
    return;
  }
  const link = { hostEnd: switchEnd, containerEnd: routingEnd, mac: UPLINK_MAC, mtu };
  await links.ensure(link, signal);
  await links.disableChecksumOffload(routingEnd, signal);
  const server = nameServerAddress(uplink.firstAddress);
  const end = { interfaceName: routingEnd, gatewayMac: GATEWAY_MAC, nameServerAddress: server };
  await uplink.ensure(end, signal);
  await switchPort.addPort({ name: switchEnd, externalIds: {} }, signal);
  flows.openUplink();
}

/** Lists links and ports. Links first, because each link has a record before it exists. */
async function observe(ctx: DriverContext, signal: AbortSignal): Promise<Observed> {
  const links = await ctx.links.list(signal);
  const ports = await ctx.switchPort.listPorts(signal);
  return {
    ports: new Map(ports.map((port) => [port.name, port])),
    links: new Map(links.map((link) => [link.name, link])),
  };
}

type Correction = "none" | "add-port" | "remove-port" | "remove-endpoint";

function decide(ctx: DriverContext, endpointId: string, { ports, links }: Observed): Correction {
  const { hostEnd } = ctx.names.nameEnds(endpointId);
  const link = links.get(hostEnd);
  const port = ports.get(hostEnd);
  if (link?.isPeerInOtherNamespace) return port?.ofPort === undefined ? "add-port" : "none";
  if (ctx.records.ageMs(endpointId) >= UNUSED_ENDPOINT_MS) return "remove-endpoint";
  return link === undefined && port ? "remove-port" : "none";
}

/** Returns the name of an unknown interface that it leaves, because a container may need it. */
type ConvergenceTask = EndpointTask<Observed, string | undefined>;

function toCorrectionTask(
  ctx: DriverContext,
  endpointId: string,
  signal: AbortSignal,
): ConvergenceTask {
  return {
    endpointId,
    run: async (observed) => {
      const endpoint = ctx.records.endpoints.get(endpointId);
      if (!endpoint) return undefined;
      const correction = decide(ctx, endpointId, observed);
      if (correction === "none") return undefined;
      await correct(ctx, { endpointId, endpoint, correction }, signal);
      ctx.flows.markOutdated();
      ctx.log.warn({ endpointId, set: endpoint.set, correction }, "corrected an endpoint");
      return undefined;
    },
  };
}

async function correct(
  ctx: DriverContext,
  {
    endpointId,
    endpoint,
    correction,
  }: {
    endpointId: string;
    endpoint: Endpoint;
    correction: Correction;
  },
  signal: AbortSignal,
): Promise<void> {
  if (correction === "add-port") return addPort(ctx, endpointId, endpoint, signal);
  const { hostEnd } = ctx.names.nameEnds(endpointId);
  await ctx.switchPort.removePort(hostEnd, signal);
  if (correction === "remove-port") return undefined;
  await ctx.links.remove(hostEnd, signal);
  ctx.detached.delete(endpointId);
  ctx.joined.delete(endpointId);
  return ctx.records.removeEndpoint(endpointId);
}

function toAdoptionTask(
  ctx: DriverContext,
  hostEnd: string,
  listed: Observed,
  signal: AbortSignal,
): ConvergenceTask {
  const read = ({ ports }: Observed) => readExternalIds(ports.get(hostEnd)?.externalIds ?? {});
  const endpointId = read(listed)?.endpointId ?? hostEnd;
  return {
    endpointId,
    run: async (observed) => {
      if (ctx.records.endpoints.has(endpointId)) return undefined;
      if (!observed.links.get(hostEnd)?.isPeerInOtherNamespace) {
        await ctx.switchPort.removePort(hostEnd, signal);
        await ctx.links.remove(hostEnd, signal);
        ctx.log.warn({ port: hostEnd }, "removed a port or link without an endpoint");
        return undefined;
      }
      const found = read(observed);
      if (found?.endpointId !== endpointId || ctx.names.nameEnds(endpointId).hostEnd !== hostEnd)
        return hostEnd;
      await adopt(ctx, endpointId, found.endpoint);
      return undefined;
    },
  };
}

async function adopt(ctx: DriverContext, endpointId: string, endpoint: Endpoint): Promise<void> {
  const { dockerNetworkId, networkId, vni, mtu, gateways } = endpoint;
  if (!ctx.records.networks.has(dockerNetworkId))
    await ctx.records.adoptNetwork(dockerNetworkId, { networkId, vni, mtu, gateways });
  await ctx.records.adoptEndpoint(endpointId, endpoint);
  ctx.flows.markOutdated();
  ctx.log.warn({ endpointId, set: endpoint.set }, "rebuilt the record of an endpoint");
}
