import { AppError, notFound } from "../../contracts/common/app-error.ts";
import { type ResizeService, type ServiceChange } from "../../contracts/api/services.ts";
import { REPLICAS_MAX } from "../../contracts/common/limits.ts";
import {
  containerMemoryBytes,
  type SetTemplate,
  templateWithSize,
} from "../../contracts/api/set-template.ts";
import type { Queryable } from "../../db/postgres/open-postgres.ts";
import { listAllHostPools, listFleetHosts } from "../../db/queries/placement/fleet.ts";
import {
  findServiceResize,
  listSetsToResize,
  readMemoryUsage,
  type ServiceResizeRow,
  type SetSize,
  type SizedSet,
  updateRevisionVolumes,
} from "../../db/queries/services/resizes.ts";
import {
  findTemplate,
  getSizedTemplate,
  lockServiceByName,
  type ServiceRow,
  updateService,
} from "../../db/queries/services/write-services.ts";
import type { ControlContext, UnitOfWork } from "../runtime/context.ts";
import { unitOfWork } from "../runtime/unit-of-work.ts";
import { toPlanPolicy } from "../placement/host-snapshot.ts";
import { assertGeneration, assertNotDeleting } from "../runtime/preconditions.ts";
import { readChangedService } from "./get-service.ts";
import { computeSetAmounts, assertWithinQuota, subtractAmounts } from "../tenancy/quota.ts";
import { computeGrowth } from "../placement/growth.ts";
import { reconcileServiceSets } from "../replicas/reconcile-replicas.ts";
import {
  assertMayMove,
  resizeNextSets,
  SETS_AT_ONCE_MAX,
  SETS_PER_ROUND_MAX,
} from "./resize-round.ts";
import {
  applyWanted,
  findHostsWithoutCapacity,
  invalid,
  isSameSize,
  type HostWithoutCapacity,
  resizeSet,
} from "./resize-steps.ts";
import { formatCount } from "../../lib/text/format-count.ts";
import { describeBytes } from "../../lib/text/describe-bytes.ts";

/**
 * How often sets may be placed on another host while the resize waits for the locks of their hosts.
 */
const ATTEMPTS_MAX = 5;

/**
 * Changes the size of all sets of a service, in place: their agents change the limits of running
 * containers. No revision changes. Berth books the growth of a set first, on locked hosts (I2). It
 * releases the difference of a smaller size when the agent confirms the new limits, and reverts a
 * size that the kernel refuses (see db/queries/services/resizes.ts).
 *
 * A service of up to SETS_AT_ONCE_MAX sets is resized in one transaction, all or nothing. A larger
 * one is admitted as a whole without locking hosts, and then resized in rounds. A set whose host
 * has lost the capacity meanwhile waits for it, with the reason.
 *
 * If a host lacks capacity, Berth refuses the whole resize. With `ifNoCapacity: move`, it replaces
 * as few sets as possible on other hosts instead. They keep their size until a host has capacity.
 *
 * Throws not-found, generation-mismatch, state-conflict, quota-exceeded, invalid-request (a smaller
 * volume, or less memory than is used), capacity-insufficient.
 */
export async function resizeService(
  ctx: ControlContext,
  tenantId: string,
  name: string,
  body: ResizeService,
  generation: number | undefined,
): Promise<ServiceChange> {
  for (let attempt = 0; attempt < ATTEMPTS_MAX; attempt++) {
    const change = await unitOfWork(ctx, async (tx): Promise<ServiceChange> => {
      const service = await lockServiceByName(tx, tenantId, name);
      if (!service) throw notFound("service");
      assertGeneration(service, generation);
      assertNotDeleting(service);
      const effects = await applyResize(ctx, tx, service, body);
      return { service: await readChangedService(tx, tenantId, name), effects };
    }).catch((error: unknown) => {
      if (!(error instanceof HostNotLocked)) throw error;
    });
    if (change) return change;
  }
  throw new AppError("state-conflict", {
    detail: "Sets of the service are being placed right now. Retry the request.",
    retryAfterMs: 1_000,
  });
}

/** A set was placed on a host that is not locked. The transaction rolls back and runs again. */
class HostNotLocked extends Error {
  override readonly name = "HostNotLocked";
}

/** Returns the effects. Throws HostNotLocked. */
async function applyResize(
  ctx: ControlContext,
  tx: UnitOfWork,
  service: ServiceRow,
  body: ResizeService,
): Promise<string[]> {
  // Rounds of an earlier resize may remain: this one continues them.
  const earlier = await findServiceResize(tx, service.id);
  const resize: ServiceResizeRow = {
    serviceId: service.id,
    cpuMillis: body.cpu ?? earlier?.cpuMillis,
    memoryBytes: body.memory ?? earlier?.memoryBytes,
    volumeBytes: body.volume ?? earlier?.volumeBytes,
    mayMove: body.ifNoCapacity === "move",
  };
  const sets = await listSetsToResize(tx, service.id, resize, REPLICAS_MAX);
  await assertVolumesGrow(tx, service, sets, body);
  const size = applyWanted(service.size, resize);
  if (sets.length === 0 && isSameSize(size, service.size))
    return ["No change: all sets already have this size."];
  // The tenant's lock comes before the locks of hosts.
  await assertQuota(tx, service, sets, resize);
  await assertMemoryUsage(ctx, tx, service, sets, body);
  const isWhole = sets.length <= SETS_AT_ONCE_MAX;
  // A small service is checked on locked hosts only.
  const short = isWhole ? [] : await findShort(ctx, tx, sets, resize);
  if (short.length > 0) assertMayMove(short, resize.mayMove);
  const changed: ServiceRow = { ...service, size };
  changed.generation = await updateService(tx, changed);
  if (resize.volumeBytes !== undefined) {
    const revisions = [changed.revision, changed.targetRevision];
    await updateRevisionVolumes(tx, changed.id, revisions, resize.volumeBytes);
  }
  const setsMax = isWhole ? SETS_AT_ONCE_MAX : SETS_PER_ROUND_MAX;
  const round = await resizeNextSets(tx, changed, resize, {
    failsWithoutCapacity: isWhole,
    setsMax,
  });
  if (!round) throw new HostNotLocked();
  return reportResize(tx, changed, sets.length, isWhole ? round.short : short);
}

/** Throws quota-exceeded. Counts the replicas with their new size, and the growth of each set. */
async function assertQuota(
  tx: Queryable,
  service: ServiceRow,
  sets: readonly SizedSet[],
  resize: ServiceResizeRow,
): Promise<void> {
  const from = await getSizedTemplate(tx, service);
  const to = templateWithSize(from, applyWanted(service.size, resize));
  const existing = { sets: 0, cpuMillis: 0, memoryBytes: 0, volumeBytes: 0, rootfsBytes: 0 };
  for (const set of sets) {
    const growth = computeGrowth(set, resizeSet(set, resize));
    existing.cpuMillis += growth.cpuMillis;
    existing.memoryBytes += growth.memoryBytes;
    existing.volumeBytes += growth.volumeBytes;
  }
  await assertWithinQuota(tx, service.tenantId, {
    intended: subtractAmounts(
      computeSetAmounts(to, service.desiredReplicas),
      computeSetAmounts(from, service.desiredReplicas),
    ),
    existing,
  });
}

async function findShort(
  ctx: ControlContext,
  tx: Queryable,
  sets: readonly SizedSet[],
  resize: ServiceResizeRow,
): Promise<HostWithoutCapacity[]> {
  const hostIds = [...new Set(sets.flatMap(({ hostId }) => hostId ?? []))];
  const [pools, hosts] = await Promise.all([listAllHostPools(tx), listFleetHosts(tx, hostIds)]);
  return findHostsWithoutCapacity(
    hosts,
    toPlanPolicy(pools, ctx.settings.reportAgeMaxMs),
    sets,
    resize,
  );
}

async function assertVolumesGrow(
  tx: Queryable,
  service: ServiceRow,
  sets: readonly SizedSet[],
  { volume }: ResizeService,
): Promise<void> {
  if (volume === undefined) return;
  const template = await getSizedTemplate(tx, service);
  if (!template.volume) {
    throw invalid(
      "/volume",
      "The service has no volume in its template, so a resize cannot add one.",
    );
  }
  const largest = sets.reduce(
    (bytes, { size }) => Math.max(bytes, size.volumeBytes),
    template.volume.sizeBytes,
  );
  if (volume < largest)
    throw invalid(
      "/volume",
      `Volumes only grow, and the largest has ${describeBytes(largest)}. Choose at least that size.`,
    );
}

/**
 * Refuses less memory than a set or one of its containers uses: the kernel would refuse it as well.
 * Where the last report is too old, the set's agent finds out, and the resize is reverted if the
 * kernel refuses.
 */
async function assertMemoryUsage(
  ctx: ControlContext,
  tx: Queryable,
  service: ServiceRow,
  sets: readonly SizedSet[],
  { memory }: ResizeService,
): Promise<void> {
  if (memory === undefined) return;
  const shrinking = new Set(
    sets.filter(({ size }) => size.memoryBytes > memory).map(({ id }) => id),
  );
  if (shrinking.size === 0) return;
  const templates = new Map<number, SetTemplate | undefined>();
  for (const usage of await readMemoryUsage(tx, service.id, ctx.settings.reportAgeMaxMs)) {
    if (!shrinking.has(usage.setId)) continue;
    if (!templates.has(usage.revision))
      templates.set(usage.revision, await findTemplate(tx, service.id, usage.revision));
    const containers = templates.get(usage.revision)?.containers ?? [];
    const parts = [
      { what: `Set ${usage.setId}`, usedBytes: usage.usedBytes, limitBytes: memory },
      ...containers.map(({ name, options }) => ({
        what: `Container "${name}" of set ${usage.setId}`,
        usedBytes: usage.containers[name] ?? 0,
        limitBytes: containerMemoryBytes({ memoryBytes: memory }, options),
      })),
    ];
    const over = parts.find(({ usedBytes, limitBytes }) => usedBytes > limitBytes);
    if (!over) continue;
    const { what, usedBytes, limitBytes } = over;
    throw invalid(
      "/memory",
      `${what} uses ${describeBytes(usedBytes)} of memory, more than its new limit of ${describeBytes(limitBytes)}.`,
    );
  }
}

async function reportResize(
  tx: UnitOfWork,
  service: ServiceRow,
  sets: number,
  short: readonly HostWithoutCapacity[],
): Promise<string[]> {
  const count = (isLost: boolean) =>
    short
      .filter((host) => host.isLost === isLost)
      .reduce((total, host) => total + host.sets.length, 0);
  const [moving, left] = [count(false), count(true)];
  const inPlace = sets - moving - left;
  const size = describeSize(service.size);
  tx.emit({
    kind: "service-resized",
    tenantId: service.tenantId,
    serviceId: service.id,
    generation: service.generation,
    data: { service: service.name, size, inPlace, replaced: moving },
  });
  await reconcileServiceSets(tx, service);
  return [
    `Berth will resize ${formatCount(inPlace, "set")} in place to ${size}, without a restart.`,
    ...(moving > 0
      ? [
          `Berth will replace ${formatCount(moving, "set")} because the hosts lack capacity for the new size. Each keeps its size until another host has capacity and the disruption budget allows it.`,
        ]
      : []),
    ...(left > 0
      ? [`${formatCount(left, "set")} on lost hosts cannot grow: the hosts lack capacity.`]
      : []),
  ];
}

function describeSize({ cpuMillis, memoryBytes, volumeBytes }: SetSize): string {
  const volume = volumeBytes > 0 ? [`${describeBytes(volumeBytes)} of volume`] : [];
  return [`${cpuMillis / 1000} cores`, `${describeBytes(memoryBytes)} of memory`, ...volume].join(
    ", ",
  );
}
