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
 * Deletes a host and invalidates its credential. A cordoned host must have neither sets nor
 * volumes.
 *
 * A lost host may have both. With `confirm`, which repeats its id, the caller states that the
 * machine never returns. Then other sets replace its sets, whatever `onHostLost` says; its stopped
 * sets are placed again, stopped; and its volumes are lost. This deletion is not fenced: if the
 * machine still runs, its containers run on (I3 relies on the caller's statement). One transaction
 * does all of it.
 *
 * Throws not-found, state-conflict, and invalid-request if `confirm` is another id.
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
      throw new AppError("state-conflict", {
        detail: "A set was placed on the host during this request. Retry the request.",
        retryAfterMs: 1_000,
      });
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
      "A host must be cordoned, without sets and volumes, or lost. Drain the host, and restore or purge its volumes first.",
    );
  }
  if (confirm === undefined) {
    throw conflict(
      `Host ${name} is lost with ${count(sets.length, "set")} and ${count(volumes, "volume")}, which are deleted with it. This cannot be undone. If the machine never returns, repeat with \`confirm=${hostId}\`.`,
    );
  }
  if (confirm === hostId) return;
  throw new AppError("invalid-request", {
    detail: `This also deletes the host's sets and volumes and cannot be undone. Repeat with \`confirm=${hostId}\`.`,
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

/**
 * Enqueues the placement of stopped sets. They keep their ids, so no job for new sets covers them.
 */
function replanStopped(tx: UnitOfWork, hostId: string, { sets }: HostContent): void {
  tx.signal(...sets.map(({ id }) => `set:${id}` as const));
  if (!sets.some(({ desired }) => desired === "stopped")) return;
  tx.enqueue({
    name: "place-sets",
    jobId: `place:${hostId}:deleted`,
    payload: { cause: "host-deleted" },
  });
}

function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? "" : "s"}`;
}

function conflict(detail: string): AppError {
  return new AppError("state-conflict", { detail });
}
