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
import { reconcileServiceSets } from "../replicas/reconcile-replicas.ts";

/**
 * Forgets a host; its credential stops working. One that takes no sets any more and has none, nor volumes, is simply gone.
 *
 * A lost one may have both, and nobody else can end their bookings: `confirm`, its id once more, says that the machine never
 * comes back. Then its sets are gone with it, others take their places whatever the service's onHostLost (those that were
 * stopped are placed again, stopped), and its volumes are forgotten. This is the one removal that fences nothing: should
 * the machine run all the same, its containers run on (I3 rests on the caller's word). All or nothing, in one transaction.
 *
 * Throws not-found, state-conflict, and invalid-request when `confirm` is another id.
 */
export async function deleteHost(
  ctx: ControlContext,
  hostId: string,
  { confirm }: { confirm?: string | undefined },
): Promise<void> {
  await unitOfWork(ctx, async (tx) => {
    const services = await lockServicesById(tx, await listServicesOnHost(tx, hostId));
    const host = await lockRemovableHost(tx, hostId);
    if (!host) throw notFound("host");
    const content = await lockHostContent(tx, hostId);
    assertRemovable(hostId, host, content, confirm);
    const known = new Set(services.map((service) => service.id));
    if (content.sets.some((set) => !known.has(set.serviceId)))
      throw conflict("The host got a set at this very moment. Repeat the request.");
    await releaseSets(
      tx,
      hostId,
      content.sets.map(({ id, desired }) => ({
        setId: id,
        placeAgain: desired === "stopped" ? { retryAfterMs: 0, avoidHostIds: [] } : null,
      })),
    );
    const volumes = await deleteHostRow(tx, hostId);
    tx.emit(...eventsOf(hostId, host, content, volumes));
    replanStopped(tx, hostId, content);
    for (const service of services) await reconcileServiceSets(tx, service);
  });
  await closeServices(ctx);
}

function assertRemovable(
  hostId: string,
  { name, state, closed }: RemovableHost,
  { sets, volumes }: HostContent,
  confirm: string | undefined,
): void {
  const isEmpty = sets.length + volumes === 0;
  if (isEmpty && (closed || state === "lost")) return;
  if (state !== "lost") {
    throw conflict(
      "Only a host without sets that is cordoned or draining and has no volumes either, or one that is lost, can be deleted: drain it, and restore or purge its volumes first.",
    );
  }
  if (confirm === undefined) {
    throw conflict(
      `${name} is lost with ${count(sets.length, "set")} and ${count(volumes, "volume")}, which go with it for good. If the machine never comes back, repeat this with confirm=${hostId}.`,
    );
  }
  if (confirm === hostId) return;
  throw new AppError("invalid-request", {
    detail: "Deleting a host with what it has cannot be undone: confirm must be its id.",
    errors: [{ pointer: "confirm", detail: `expected ${hostId}` }],
  });
}

function eventsOf(
  hostId: string,
  { name }: RemovableHost,
  { sets }: HostContent,
  volumes: readonly DeletedVolumeRow[],
): EmittedEvent[] {
  const cause = "host-deleted";
  return [
    ...sets.map(({ id, tenantId, serviceId, desired }): EmittedEvent => {
      const subjects = { tenantId, serviceId, setId: id, hostId };
      if (desired === "stopped") {
        return { kind: "set-moved", data: { cause, host: name }, ...subjects };
      }
      const isReplaced = desired !== "deleted";
      return { kind: "set-lost", data: { cause, host: name, isReplaced }, ...subjects };
    }),
    ...volumes.map(({ id, tenantId, setId }): EmittedEvent => {
      return { kind: "volume-lost", data: { cause, volume: id }, tenantId, setId, hostId };
    }),
    { kind: "host-deleted", data: { host: name }, hostId },
  ];
}

/** Has stopped sets placed again. They keep their id and are no addition, so no other job covers them. */
function replanStopped(tx: UnitOfWork, hostId: string, { sets }: HostContent): void {
  tx.signal(...sets.map(({ id }) => `set:${id}` as const));
  if (!sets.some(({ desired }) => desired === "stopped")) return;
  tx.enqueue({
    name: "place-sets",
    jobId: `place:${hostId}:deleted`,
    payload: { cause: "host-deleted" },
  });
}

function count(number: number, what: string): string {
  return `${number} ${what}${number === 1 ? "" : "s"}`;
}

function conflict(detail: string): AppError {
  return new AppError("state-conflict", { detail });
}
