import { SETS_PER_HOST_MAX } from "../../contracts/agent-protocol/protocol.ts";
import type { JobRequest } from "../../contracts/jobs.ts";
import { AppError, notFound } from "../../contracts/common/app-error.ts";
import type { EmittedEvent } from "../../contracts/api/event-texts.ts";
import {
  type DeletedVolumeRow,
  deleteHostRow,
  type HostContent,
  listServicesOnHost,
  lockHostContent,
  lockRemovableHost,
  type RemovableHost,
} from "../../db/queries/hosts/remove-hosts.ts";
import { releaseSets } from "../../db/queries/sets/observed-sets.ts";
import { lockServicesById } from "../../db/queries/services/write-services.ts";
import { closeServices } from "../services/close-services.ts";
import type { ControlContext, UnitOfWork } from "../runtime/context.ts";
import { unitOfWork } from "../runtime/unit-of-work.ts";
import { reconcileService } from "../replicas/reconcile-replicas.ts";

/** The services whose sets one transaction abandons: it locks their rows. */
export const SERVICES_PER_ROUND_MAX = 20;
/** Above the number of rounds for a full host whose sets all belong to other services. */
const ROUNDS_MAX = 1 + Math.ceil(SETS_PER_HOST_MAX / SERVICES_PER_ROUND_MAX);

/**
 * Deletes a host and invalidates its credential. A cordoned host must have neither sets nor
 * volumes.
 *
 * A lost host may have both. With `confirm`, which repeats its id, the caller states that the
 * machine never returns. Then other sets replace its sets, whatever `onHostLost` says; its stopped
 * sets are placed again, stopped; and its volumes are lost. If the machine still runs, its agent
 * stops the sets about a minute after it reaches the API again (I3). Until then they run twice.
 *
 * Each transaction abandons the sets of a few services, and enqueues the jobs that replace them.
 * The last one deletes the host. After a crash in between, the lost host has fewer sets, and a
 * repeated request continues. An error after a commit does not fail the request: the jobs and the
 * `service-deletion` sweep complete it.
 *
 * Throws not-found, state-conflict, and invalid-request if `confirm` is another id.
 */
export async function deleteHost(
  ctx: ControlContext,
  hostId: string,
  { confirm }: { confirm?: string | undefined },
): Promise<void> {
  for (let round = 0; round < ROUNDS_MAX; round++) {
    const { serviceIds, isDeleted } = await unitOfWork(ctx, (tx) =>
      abandonNextSets(tx, hostId, confirm),
    );
    await replaceImmediately(ctx, hostId, serviceIds, isDeleted);
    if (isDeleted) return;
  }
  throw new AppError("state-conflict", {
    detail: "Sets were placed on the host during this request. Retry the request.",
    retryAfterMs: 1_000,
  });
}

/**
 * Reconciles the services before their jobs do, and closes services after a deletion. Never throws.
 */
async function replaceImmediately(
  ctx: ControlContext,
  hostId: string,
  serviceIds: readonly string[],
  isDeleted: boolean,
): Promise<void> {
  try {
    // Each in a transaction of its own, which may lock other hosts in the order of their ids.
    for (const serviceId of serviceIds) await reconcileService(ctx, serviceId);
    if (isDeleted) await closeServices(ctx);
  } catch (error) {
    ctx.log.warn({ err: error, hostId }, "cannot replace the sets of a deleted host immediately");
  }
}

/** Abandons the sets of the next services on the host. Deletes the host if no set remains. */
async function abandonNextSets(
  tx: UnitOfWork,
  hostId: string,
  confirm: string | undefined,
): Promise<{ serviceIds: string[]; isDeleted: boolean }> {
  const serviceIds = await listServicesOnHost(tx, hostId, SERVICES_PER_ROUND_MAX);
  const services = await lockServicesById(tx, serviceIds);
  const host = await lockRemovableHost(tx, hostId);
  if (!host) throw notFound("host");
  const content = await lockHostContent(tx, hostId, serviceIds);
  assertRemovable(hostId, host, content, confirm);
  await releaseSets(
    tx,
    hostId,
    content.sets.map(({ id, desired }) => ({
      setId: id,
      placeAgain: desired === "stopped" ? { retryAfterMs: 0, avoidHostIds: [] } : null,
    })),
  );
  tx.emit(...toSetEvents(hostId, host, content));
  replanStopped(tx, hostId, content);
  tx.enqueue(
    ...services.map(({ id, generation }): JobRequest => ({
      name: "reconcile-service",
      jobId: `reconcile:${id}:gen${generation}-deleted-${hostId}`,
      payload: { serviceId: id, generation },
    })),
  );
  const isDeleted = content.setsTotal === content.sets.length;
  if (isDeleted) {
    const volumes = await deleteHostRow(tx, hostId);
    tx.emit(...toHostEvents(hostId, host, volumes));
  }
  return { serviceIds, isDeleted };
}

function assertRemovable(
  hostId: string,
  { name, state, closed }: RemovableHost,
  { setsTotal, volumes }: HostContent,
  confirm: string | undefined,
): void {
  const isEmpty = setsTotal + volumes === 0;
  if (isEmpty && (closed || state === "lost")) return;
  if (state !== "lost") {
    throw conflict(
      "A host must be cordoned, without sets and volumes, or lost. Drain the host, and restore or purge its volumes first.",
    );
  }
  if (confirm === undefined) {
    throw conflict(
      `Host ${name} is lost with ${count(setsTotal, "set")} and ${count(volumes, "volume")}, which are deleted with it. This cannot be undone. If the machine never returns, repeat with \`confirm=${hostId}\`.`,
    );
  }
  if (confirm === hostId) return;
  throw new AppError("invalid-request", {
    detail: `This also deletes the host's sets and volumes and cannot be undone. Repeat with \`confirm=${hostId}\`.`,
    errors: [{ pointer: "confirm", detail: `expected ${hostId}` }],
  });
}

function toSetEvents(
  hostId: string,
  { name }: RemovableHost,
  { sets }: HostContent,
): EmittedEvent[] {
  const cause = "host-deleted";
  return sets.map(({ id, tenantId, serviceId, desired }): EmittedEvent => {
    const subjects = { tenantId, serviceId, setId: id, hostId };
    if (desired === "stopped") {
      return { kind: "set-moved", data: { cause, host: name }, ...subjects };
    }
    const isReplaced = desired !== "deleted";
    return { kind: "set-lost", data: { cause, host: name, isReplaced }, ...subjects };
  });
}

function toHostEvents(
  hostId: string,
  { name }: RemovableHost,
  volumes: readonly DeletedVolumeRow[],
): EmittedEvent[] {
  const cause = "host-deleted";
  return [
    ...volumes.map(({ id, tenantId, setId }): EmittedEvent => {
      return { kind: "volume-lost", data: { cause, volume: id }, tenantId, setId, hostId };
    }),
    { kind: "host-deleted", data: { host: name }, hostId },
  ];
}

/**
 * Enqueues the placement of stopped sets. They keep their ids, so no job for new sets covers them.
 */
function replanStopped(tx: UnitOfWork, hostId: string, { sets }: HostContent): void {
  tx.signal(...sets.map(({ id }) => `set:${id}` as const));
  if (!sets.some(({ desired }) => desired === "stopped")) return;
  tx.enqueue({
    name: "place-sets",
    jobId: `place:${hostId}:deleted-${sets[0]?.id}`,
    payload: { cause: "host-deleted" },
  });
}

function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? "" : "s"}`;
}

function conflict(detail: string): AppError {
  return new AppError("state-conflict", { detail });
}
