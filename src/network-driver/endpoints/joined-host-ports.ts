import { DriverError } from "../model/driver-error.ts";
import type { DriverContext } from "./driver-context.ts";

/**
 * Runs the join of an endpoint while no other endpoint with one of its host ports joins. Rejects
 * with DriverError if such an endpoint joins now, or if its container has a link. A host port leads
 * to one endpoint only, so the second container would never be reached.
 */
export async function joinWithHostPorts<T>(
  ctx: DriverContext,
  endpointId: string,
  join: () => Promise<T>,
  signal: AbortSignal,
): Promise<T> {
  const others = findOthers(ctx, endpointId);
  // Nothing runs between this check and the note, so the first of two endpoints joins.
  for (const other of others) if (ctx.joining.has(other.endpointId)) throw toError(ctx, other);
  ctx.joining.add(endpointId);
  try {
    if (others.length > 0) await checkLinks(ctx, others, signal);
    return await join();
  } finally {
    ctx.joining.delete(endpointId);
  }
}

interface Conflict {
  endpointId: string;
  /** Such as `20001/tcp`. */
  port: string;
}

function findOthers({ records }: DriverContext, endpointId: string): Conflict[] {
  const listPorts = (id: string): string[] =>
    (records.endpoints.get(id)?.publishedPorts ?? []).map(
      ({ protocol, hostPort }) => `${hostPort}/${protocol}`,
    );
  const own = new Set(listPorts(endpointId));
  if (own.size === 0) return [];
  return [...records.endpoints.keys()].flatMap((otherId) => {
    const port =
      otherId === endpointId ? undefined : listPorts(otherId).find((one) => own.has(one));
    return port === undefined ? [] : [{ endpointId: otherId, port }];
  });
}

/** An endpoint without a link has no container: Docker has forgotten it. */
async function checkLinks(
  ctx: DriverContext,
  others: readonly Conflict[],
  signal: AbortSignal,
): Promise<void> {
  const links = new Map((await ctx.links.list(signal)).map((link) => [link.name, link]));
  for (const other of others) {
    const link = links.get(ctx.names.nameEnds(other.endpointId).hostEnd);
    if (link?.isPeerInOtherNamespace || (link && ctx.joined.has(other.endpointId)))
      throw toError(ctx, other);
  }
}

function toError({ records }: DriverContext, { endpointId, port }: Conflict): DriverError {
  const set = records.endpoints.get(endpointId)?.set;
  const owner = set === undefined ? "another container" : `the container of ${set}`;
  return new DriverError(`Host port ${port}: address already in use by ${owner} on this host.`);
}
