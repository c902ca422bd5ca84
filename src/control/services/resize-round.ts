import type { JobRequest } from "../../contracts/jobs.ts";
import { createReason } from "../../contracts/api/reason-texts.ts";
import { AppError } from "../../contracts/common/app-error.ts";
import { listAllHostPools, lockFleetHosts } from "../../db/queries/placement/fleet.ts";
import {
  deleteServiceResize,
  findServiceResize,
  insertWaitingResizes,
  listServiceResizes,
  listSetsToResize,
  lockSizedSets,
  resizeSets,
  retargetOperations,
  type ServiceResizeRow,
  type SizedSet,
  upsertServiceResize,
} from "../../db/queries/services/resizes.ts";
import { lockServiceBriefly, type ServiceRow } from "../../db/queries/services/write-services.ts";
import type { ControlContext, UnitOfWork } from "../runtime/context.ts";
import { unitOfWork } from "../runtime/unit-of-work.ts";
import { toPlanPolicy } from "../placement/host-snapshot.ts";
import { placeSetsJob } from "../replicas/reconcile-replicas.ts";
import { findHostsWithoutCapacity, type HostWithoutCapacity, resizeSet } from "./resize-steps.ts";

/** Sets that are resized in one transaction, all or nothing. */
export const SETS_AT_ONCE_MAX = 300;
/**
 * Sets of a larger service that one transaction resizes. Each costs about 2 ms on a busy machine,
 * and the reports of its host wait for the transaction.
 */
export const SETS_PER_ROUND_MAX = 100;
/**
 * Sets that one read lists for the next rounds. Each read visits all sets of the service, so a read
 * per round would visit 20,000 sets 200 times.
 */
const SETS_PER_READ_MAX = 2_000;
const SERVICES_PER_SWEEP_MAX = 100;
const HOSTS_NAMED_MAX = 5;

interface RoundOptions {
  failsWithoutCapacity: boolean;
  setsMax: number;
  /** The sets of this round. If omitted, the next sets of the service. */
  setIds?: readonly string[];
}

export interface ResizeRound {
  inPlace: number;
  short: HostWithoutCapacity[];
  isLast: boolean;
}

/**
 * Resizes the next sets of a service, whose row the caller has locked: in place where their hosts
 * have the capacity. Other sets get an operation that waits, with the reason. Enqueues the next
 * round, unless the caller names the sets of this round: then the caller runs the next one.
 *
 * Returns undefined and changes nothing when a set was placed on a host that is not locked. The
 * hosts are known only once the sets are locked.
 * @param failsWithoutCapacity throws capacity-insufficient instead of letting sets wait
 */
export async function resizeNextSets(
  tx: UnitOfWork,
  service: ServiceRow,
  resize: ServiceResizeRow,
  { failsWithoutCapacity, setsMax, setIds }: RoundOptions,
): Promise<ResizeRound | undefined> {
  const found = await listSetsToResize(tx, service.id, resize, setsMax + 1, setIds);
  const batch = found.slice(0, setsMax);
  const hostIds = new Set(batch.flatMap(({ hostId }) => hostId ?? []));
  const [pools, hosts, sets] = await Promise.all([
    listAllHostPools(tx),
    lockFleetHosts(tx, [...hostIds]),
    lockSizedSets(
      tx,
      batch.map(({ id }) => id),
    ),
  ]);
  if (sets.some(({ hostId }) => hostId !== null && !hostIds.has(hostId))) return undefined;
  const short = findHostsWithoutCapacity(hosts, toPlanPolicy(pools, 0), sets, resize);
  if (failsWithoutCapacity && short.length > 0) assertMayMove(short, resize.mayMove);
  const shortIds = new Set(short.flatMap((host) => host.sets.map(({ id }) => id)));
  const toResize = (set: SizedSet) => ({ setId: set.id, size: resizeSet(set, resize) });
  const inPlace = sets.filter(({ id, isDeparting }) => !isDeparting && !shortIds.has(id));
  await resizeSets(tx, inPlace.map(toResize));
  await retargetOperations(tx, sets.filter(({ isDeparting }) => isDeparting).map(toResize));
  await letWait(tx, short, resize);
  wake(tx, service, inPlace, short.length > 0);
  if (setIds) return { inPlace: inPlace.length, short, isLast: false };
  const isLast = found.length <= setsMax;
  if (isLast) await deleteServiceResize(tx, service.id);
  else await storeNextRound(tx, service, resize, batch[0]?.id ?? "");
  return { inPlace: inPlace.length, short, isLast };
}

/** Throws capacity-insufficient unless these sets may move to other hosts for their size. */
export function assertMayMove(short: readonly HostWithoutCapacity[], mayMove: boolean): void {
  const hosts = short
    .slice(0, HOSTS_NAMED_MAX)
    .map(({ name, why, sets }) => `${name} (${sets.length} sets, ${why})`)
    .join(", ");
  const more = short.length > HOSTS_NAMED_MAX ? ` and ${short.length - HOSTS_NAMED_MAX} more` : "";
  const shortage = `No capacity for the new size on ${hosts}${more}.`;
  if (short.some(({ sets }) => sets.some(({ size }) => size.volumeBytes > 0))) {
    throw new AppError("capacity-insufficient", {
      detail: `${shortage} Sets with a volume do not move for their size: their data would stay behind, in the trash of that host. Free capacity there.`,
    });
  }
  if (mayMove) return;
  throw new AppError("capacity-insufficient", {
    detail: `${shortage} Free capacity there, or repeat with "ifNoCapacity": "move" to replace these sets by others elsewhere.`,
  });
}

async function letWait(
  tx: UnitOfWork,
  short: readonly HostWithoutCapacity[],
  resize: ServiceResizeRow,
): Promise<void> {
  const waiting = short.flatMap(({ name, why, isLost, sets }) => {
    const facts = { cause: "no-capacity", host: name, isLost, missing: why } as const;
    const reason = createReason("resize-refused", facts, "resize");
    return sets.map((set) => ({
      setId: set.id,
      size: resizeSet(set, resize),
      reason,
    }));
  });
  await insertWaitingResizes(tx, waiting, resize.mayMove);
}

/**
 * Wakes the hosts of resized sets, the placer if some sets are pending, and the mover if some must
 * move.
 */
function wake(
  tx: UnitOfWork,
  service: ServiceRow,
  inPlace: readonly SizedSet[],
  hasMoves: boolean,
): void {
  tx.signal(`service:${service.id}`);
  for (const { hostId } of inPlace) if (hostId !== null) tx.signal(`host:${hostId}`);
  if (inPlace.some(({ hostId }) => hostId === null)) tx.enqueue(placeSetsJob(service));
  if (!hasMoves) return;
  const jobId = `move:${service.id}:gen${service.generation}`;
  tx.enqueue({ name: "move-sets", jobId, payload: { cause: "service-resized" } });
}

async function storeNextRound(
  tx: UnitOfWork,
  service: ServiceRow,
  resize: ServiceResizeRow,
  firstSetId: string,
): Promise<void> {
  await upsertServiceResize(tx, resize);
  tx.enqueue(resizeJob(service, firstSetId));
}

/** The job of the next round. Its id contains the first set of this round, so each is unique. */
function resizeJob({ id, generation }: ServiceRow, firstSetId: string): JobRequest {
  const jobId = `resize:${id}:gen${generation}-after-${firstSetId}`;
  return { name: "resize-service", jobId, payload: { serviceId: id } };
}

/**
 * Runs the next rounds of a service's stored resize, with one read for most of them. Returns how
 * many sets it resized; safe to run at any time. Throws overloaded if another transaction holds the
 * lock of the service.
 */
export async function continueResize(ctx: ControlContext, serviceId: string): Promise<number> {
  const resize = await findServiceResize(ctx.db, serviceId);
  if (!resize) return 0;
  const listed = await listSetsToResize(ctx.db, serviceId, resize, SETS_PER_READ_MAX);
  let resized = 0;
  // The last round reads the sets again, to find out whether sets remain.
  for (let from = 0; from + SETS_PER_ROUND_MAX < listed.length; from += SETS_PER_ROUND_MAX) {
    const setIds = listed.slice(from, from + SETS_PER_ROUND_MAX).map(({ id }) => id);
    resized += await runRound(ctx, serviceId, setIds);
  }
  return resized + (await runRound(ctx, serviceId));
}

async function runRound(
  ctx: ControlContext,
  serviceId: string,
  setIds?: readonly string[],
): Promise<number> {
  return unitOfWork(ctx, async (tx) => {
    const service = await lockServiceBriefly(tx, serviceId);
    const resize = await findServiceResize(tx, serviceId);
    if (!resize) return 0;
    if (!service || service.deleting) {
      await deleteServiceResize(tx, serviceId);
      return 0;
    }
    const round = await resizeNextSets(tx, service, resize, {
      failsWithoutCapacity: false,
      setsMax: SETS_PER_ROUND_MAX,
      ...(setIds === undefined ? {} : { setIds }),
    });
    // A set was placed meanwhile: the sweep runs this round again.
    return round?.inPlace ?? 0;
  });
}

/**
 * Runs rounds of each stored resize: the `resizes` sweep. An error affects only one service. After
 * an abort of `signal`, it handles no further service.
 */
export async function continueResizes(ctx: ControlContext, signal?: AbortSignal): Promise<void> {
  for (const serviceId of await listServiceResizes(ctx.db, SERVICES_PER_SWEEP_MAX)) {
    if (signal?.aborted) return;
    try {
      await continueResize(ctx, serviceId);
    } catch (error) {
      ctx.log.warn({ err: error, serviceId }, "cannot continue the resize of the service");
    }
  }
}
