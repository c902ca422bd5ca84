import { stripPrefixLength } from "../../lib/ip/ip-address.ts";
import { runAbortable } from "../../lib/async/abort.ts";
import { DriverError } from "../model/driver-error.ts";
import { type DockerNetwork, type Endpoint } from "../model/driver-records.ts";
import { toExternalIds } from "../model/external-ids.ts";
import type { LinkEnds } from "../model/link-names.ts";
import { findSharedHostPort } from "../../contracts/network-driver/published-ports.ts";
import type { DriverContext } from "./driver-context.ts";
import { haveSameAddress } from "./endpoint-records.ts";

/** The deadline of the cleanup after a failed call, whose own deadline may have passed. */
const CLEANUP_TIMEOUT_MS = 5_000;
/** How long to wait for Open vSwitch to remove a port. The link is removed in parallel. */
const REMOVE_PORT_TIMEOUT_MS = 4_000;

/**
 * Records an endpoint durably, without a link. A repeated call with the same facts changes nothing.
 * It replaces another endpoint with the same address, MAC address or host port if that one has no
 * container, because then Docker has forgotten it. Rejects with DriverError if it has one.
 */
export async function recordEndpoint(
  ctx: DriverContext,
  endpointId: string,
  endpoint: Endpoint,
  signal: AbortSignal,
): Promise<void> {
  checkAddresses(endpoint);
  const record = async (): Promise<boolean> => {
    const previous = ctx.records.endpoints.get(endpointId);
    if (previous && JSON.stringify(previous) === JSON.stringify(endpoint)) return true;
    if (ctx.records.findConflicts(endpointId, endpoint).length > 0) return false;
    // Nothing runs between the search and the record, so no two endpoints share these.
    await ctx.records.putEndpoint(endpointId, endpoint);
    return true;
  };
  if (await ctx.lock.run(endpointId, record, signal)) return;
  for (const otherId of ctx.records.findConflicts(endpointId, endpoint))
    await replaceEndpoint(ctx, otherId, endpoint, signal);
  if (await ctx.lock.run(endpointId, record, signal)) return;
  // No second replacement: endpoints that start together would replace each other in turns.
  throw new DriverError(
    `Another endpoint has just received the address ${endpoint.addresses.join(" and ")} or a host port of this one. Start the container again.`,
  );
}

/**
 * Removes an endpoint whose address or host port another one needs. Rejects with DriverError if a
 * container has its interface, or will get it because a join has succeeded. Checks this under the
 * lock of the endpoint, so no join runs meanwhile.
 */
async function replaceEndpoint(
  ctx: DriverContext,
  endpointId: string,
  wanted: Endpoint,
  signal: AbortSignal,
): Promise<void> {
  await ctx.lock.run(
    endpointId,
    async () => {
      const endpoint = ctx.records.endpoints.get(endpointId);
      if (!endpoint) return;
      const { hostEnd } = ctx.names.nameEnds(endpointId);
      const link = (await ctx.links.list(signal)).find(({ name }) => name === hostEnd);
      if (link?.isPeerInOtherNamespace || (link && ctx.joined.has(endpointId))) {
        const state = link.isPeerInOtherNamespace ? "running" : "starting";
        throw toConflictError(wanted, endpoint, state);
      }
      await removeLinkAndRecord(ctx, endpointId, signal);
      ctx.log.warn({ endpointId, set: endpoint.set }, "replaced an endpoint without a container");
    },
    signal,
  );
}

function toConflictError(wanted: Endpoint, other: Endpoint, state: string): DriverError {
  const owner = `a ${state} container${other.set === undefined ? "" : ` of ${other.set}`}`;
  const port = findSharedHostPort(wanted.publishedPorts, other.publishedPorts);
  return new DriverError(
    port === undefined || haveSameAddress(wanted, other)
      ? `The address ${other.addresses.join(" and ")} with the MAC address ${other.mac} belongs to ${owner} in the same network. Remove that container, or choose another address.`
      : `Host port ${port}: address already in use by ${owner} on this host.`,
  );
}

/**
 * Ensures that a recorded endpoint has its link, its switch port and its flows. Returns the link's
 * ends and the endpoint. If any step fails, it removes the link and the port again.
 */
export async function attachEndpoint(
  ctx: DriverContext,
  endpointId: string,
  signal: AbortSignal,
): Promise<LinkEnds & { endpoint: Endpoint }> {
  return ctx.lock.run(
    endpointId,
    async () => {
      const endpoint = ctx.records.endpoints.get(endpointId);
      if (!endpoint)
        throw new DriverError(
          "The network driver has no record of this endpoint. Start the container again.",
        );
      const ends = ctx.names.nameEnds(endpointId);
      ctx.detached.delete(endpointId);
      await ctx.uplink?.checkUnused(endpoint.publishedPorts ?? []);
      try {
        await ctx.limit(async () => {
          await ctx.links.ensure({ ...ends, mac: endpoint.mac, mtu: endpoint.mtu }, signal);
          // Both end before a cleanup begins.
          const results = await Promise.allSettled([
            addPort(ctx, endpointId, endpoint, signal),
            ctx.links.disableChecksumOffload(ends.containerEnd, signal),
          ]);
          for (const result of results) if (result.status === "rejected") throw result.reason;
        });
        await ctx.flows.apply(signal);
      } catch (error) {
        await removeLink(ctx, endpointId, AbortSignal.timeout(CLEANUP_TIMEOUT_MS)).catch(
          (cleanupError: unknown) =>
            ctx.log.warn({ err: cleanupError, endpointId }, "a failed endpoint left its link"),
        );
        throw error;
      }
      ctx.joined.add(endpointId);
      ctx.records.renew(endpointId);
      return { ...ends, endpoint };
    },
    signal,
  );
}

/** Removes the port and the link of an endpoint, but not its record. Idempotent. */
export async function detachEndpoint(
  ctx: DriverContext,
  endpointId: string,
  signal: AbortSignal,
): Promise<void> {
  await ctx.lock.run(endpointId, () => removeLink(ctx, endpointId, signal), signal);
}

/** Removes the port, the link and the record of an endpoint. Idempotent. */
export async function removeEndpoint(
  ctx: DriverContext,
  endpointId: string,
  signal: AbortSignal,
): Promise<void> {
  await ctx.lock.run(endpointId, () => removeLinkAndRecord(ctx, endpointId, signal), signal);
}

/** Skips the link if a detachment has removed it. The caller holds the lock of the endpoint. */
async function removeLinkAndRecord(
  ctx: DriverContext,
  endpointId: string,
  signal: AbortSignal,
): Promise<void> {
  if (!ctx.detached.has(endpointId)) await removeLink(ctx, endpointId, signal);
  await ctx.records.removeEndpoint(endpointId);
  ctx.detached.delete(endpointId);
}

/**
 * Ensures the switch port of an endpoint, with its external ids. The caller holds the lock of the
 * endpoint.
 */
export async function addPort(
  ctx: DriverContext,
  endpointId: string,
  endpoint: Endpoint,
  signal: AbortSignal,
): Promise<void> {
  const externalIds = toExternalIds(endpointId, endpoint);
  await ctx.switchPort.addPort(
    { name: ctx.names.nameEnds(endpointId).hostEnd, externalIds },
    signal,
  );
}

/**
 * Removes the port and the link. Removes the link even if the switch does not answer, because its
 * container ends. Then the next convergence removes the port. The caller holds the lock of the
 * endpoint.
 */
async function removeLink(
  ctx: DriverContext,
  endpointId: string,
  signal: AbortSignal,
): Promise<void> {
  const { hostEnd } = ctx.names.nameEnds(endpointId);
  const onLate = (): never => {
    throw new DriverError("Open vSwitch does not answer.");
  };
  const deadline = { timeoutMs: REMOVE_PORT_TIMEOUT_MS, onLate };
  const removePort = async (): Promise<boolean> => {
    try {
      await runAbortable({ signal, deadline }, async (removalSignal) =>
        ctx.switchPort.removePort(hostEnd, removalSignal),
      );
      return true;
    } catch (error) {
      ctx.log.warn({ err: error, port: hostEnd }, "cannot remove the port of a link");
      return false;
    }
  };
  const [isPortRemoved] = await ctx.limit(async () =>
    Promise.all([removePort(), ctx.links.remove(hostEnd, signal)]),
  );
  ctx.joined.delete(endpointId);
  if (isPortRemoved && ctx.records.endpoints.has(endpointId)) ctx.detached.add(endpointId);
  ctx.flows.markOutdated();
}

function checkAddresses({ addresses, gateways }: DockerNetwork & Endpoint): void {
  const used = addresses.map(stripPrefixLength).find((address) => gateways.includes(address));
  if (used === undefined) return;
  throw new DriverError(`${used} is the gateway of its network. Choose another address.`);
}
