import { AppError, notFound } from "../../contracts/common/app-error.ts";
import type { ResizeService, ServiceChange } from "../../contracts/api/services.ts";
import { containerMemoryBytes } from "../../contracts/api/set-template.ts";
import type { Queryable } from "../../db/postgres/open-postgres.ts";
import { listAllHostPools, lockFleetHosts } from "../../db/queries/placement/fleet.ts";
import { holdSetsBack, markSetsMoving, retargetSets } from "../../db/queries/relocation/moves.ts";
import {
  listHostsOfService,
  lockSizedSets,
  readMemoryUse,
  resizeSets,
  type SizedSet,
} from "../../db/queries/services/resizes.ts";
import {
  insertRevision,
  lockServiceByName,
  type ServiceRow,
  updateService,
} from "../../db/queries/services/write-services.ts";
import { lockTenant } from "../../db/queries/tenancy/tenant-use.ts";
import { assert } from "../../lib/assert.ts";
import type { ControlContext, UnitOfWork } from "../runtime/context.ts";
import { unitOfWork } from "../runtime/unit-of-work.ts";
import { planPolicyOf } from "../placement/fleet-cache.ts";
import { assertGeneration, assertNotDeleting } from "../runtime/preconditions.ts";
import { getService } from "./get-service.ts";
import { planMoves } from "../placement/find-room.ts";
import { amountsOfSets, assertWithinQuota, subtractAmounts } from "../tenancy/quota.ts";
import { placeSetsJob, reconcileServiceSets } from "../replicas/reconcile-replicas.ts";
import {
  findShortHosts,
  invalid,
  isSameSize,
  planResizeSteps,
  type ResizeStep,
  type ShortHost,
  stepOf,
} from "./resize-steps.ts";
import { amountsOfTemplate, growthOf } from "../placement/growth.ts";

const HOSTS_NAMED_MAX = 5;
/** How often sets may have come to another host while their hosts were waited for. */
const ATTEMPTS_MAX = 5;

/**
 * Gives all sets of a service other amounts of CPU, memory or volume, in place: their agents change the limits of what runs.
 * What a set needs more is checked and booked first, on locked hosts (I2), all or nothing; what it needs less is given back
 * when its agent says that the kernel holds it to that, and a size that the kernel refuses is taken back (see db/queries/services/resizes.ts).
 * Each revision that has sets gets a copy with the new amounts; the newest copy is the service's.
 *
 * Where a host has no room, all is refused. If the caller asks for the move, those sets are marked to be moved instead (see
 * move-sets.ts), as few as there can be, and only if the planner finds room for all of them.
 *
 * Throws not-found, generation-mismatch, state-conflict, quota-exceeded, invalid-request (a smaller volume, or less memory
 * than is used), capacity-insufficient.
 */
export async function resizeService(
  ctx: ControlContext,
  tenantId: string,
  name: string,
  body: ResizeService,
  generation: number | undefined,
): Promise<ServiceChange> {
  for (let attempt = 0; attempt < ATTEMPTS_MAX; attempt++) {
    const effects = await unitOfWork(ctx, (tx) =>
      tryResize(ctx, tx, { tenantId, name, body, generation }),
    );
    if (effects) return { service: await getService(ctx, tenantId, name), effects };
  }
  throw new AppError("state-conflict", {
    detail: "The service's sets are being placed right now; try again.",
  });
}

interface ResizeRequest {
  tenantId: string;
  name: string;
  body: ResizeService;
  generation: number | undefined;
}

/**
 * Gives the effects, or undefined when a set was placed on a host that is not locked: which hosts to lock is a guess
 * until the sets are locked.
 */
async function tryResize(
  ctx: ControlContext,
  tx: UnitOfWork,
  { tenantId, name, body, generation }: ResizeRequest,
): Promise<string[] | undefined> {
  const service = await lockServiceByName(tx, tenantId, name);
  if (!service) throw notFound("service");
  assertGeneration(service, generation);
  assertNotDeleting(service);
  const [, pools, hostIds] = await Promise.all([
    // In the lock order the tenant comes before the hosts, though only the quota check needs it.
    lockTenant(tx, tenantId),
    listAllHostPools(tx),
    listHostsOfService(tx, service.id),
  ]);
  const [hosts, sets] = await Promise.all([
    lockFleetHosts(tx, hostIds),
    lockSizedSets(tx, service.id),
  ]);
  if (sets.some(({ hostId }) => hostId !== null && !hostIds.includes(hostId))) return undefined;
  const steps = await planResizeSteps(tx, service, sets, body);
  if (steps.every(isSameSize)) return ["No change: all sets already have this size."];
  await assertQuota(tx, service, sets, steps);
  await assertMemoryUse(ctx, tx, service, steps);
  const policy = planPolicyOf(pools, ctx.settings.reportAgeMaxMs);
  const short = findShortHosts(hosts, policy, sets, steps);
  if (short.length > 0) assertMayMove(body, short, steps);
  return applySteps(ctx, tx, service, { sets, steps, short });
}

/** Throws quota-exceeded. Counts the replicas of the newest revision, and the growth of each set. */
async function assertQuota(
  tx: Queryable,
  service: ServiceRow,
  sets: readonly SizedSet[],
  steps: readonly ResizeStep[],
): Promise<void> {
  const { from, to } = newestOf(steps);
  const { desiredReplicas } = service;
  const existing = { sets: 0, cpuMillis: 0, memoryBytes: 0, volumeBytes: 0, rootfsBytes: 0 };
  for (const set of sets) {
    const growth = growthOf(set, stepOf(steps, set.revision).to);
    existing.cpuMillis += growth.cpuMillis;
    existing.memoryBytes += growth.memoryBytes;
    existing.volumeBytes += growth.volumeBytes;
  }
  await assertWithinQuota(tx, service.tenantId, {
    intended: subtractAmounts(
      amountsOfSets(to, desiredReplicas),
      amountsOfSets(from, desiredReplicas),
    ),
    existing,
  });
}

function newestOf(steps: readonly ResizeStep[]): ResizeStep {
  const newest = steps.at(-1);
  assert(newest, "the service's own revision is among the steps");
  return newest;
}

/**
 * Less memory than a set or one of its containers uses is refused with the figure: the kernel would refuse it, too. Where the last
 * report is too old to go by, the set's agent finds out, and the set goes back to its size if the kernel does refuse.
 */
async function assertMemoryUse(
  ctx: ControlContext,
  tx: Queryable,
  service: ServiceRow,
  steps: readonly ResizeStep[],
): Promise<void> {
  if (steps.every(({ from, to }) => to.memoryBytes >= from.memoryBytes)) return;
  for (const use of await readMemoryUse(tx, service.id, ctx.settings.reportAgeMaxMs)) {
    const { from, to } = stepOf(steps, use.revision);
    if (to.memoryBytes >= from.memoryBytes) continue;
    const parts = [
      { what: `Set ${use.setId}`, usedBytes: use.usedBytes, limitBytes: to.memoryBytes },
      ...to.containers.map(({ name, options }) => ({
        what: `Container "${name}" of set ${use.setId}`,
        usedBytes: use.containers[name] ?? 0,
        limitBytes: containerMemoryBytes(to, options),
      })),
    ];
    const over = parts.find(({ usedBytes, limitBytes }) => usedBytes > limitBytes);
    if (!over) continue;
    const { what, usedBytes, limitBytes } = over;
    throw invalid(
      "/memory",
      `${what} uses ${usedBytes} bytes of memory, more than the ${limitBytes} that it would have.`,
    );
  }
}

function assertMayMove(
  { ifNoRoom }: ResizeService,
  short: readonly ShortHost[],
  steps: readonly ResizeStep[],
): void {
  const hosts = short
    .slice(0, HOSTS_NAMED_MAX)
    .map(({ name, why, sets }) => `${name} (${sets.length} sets, ${why})`)
    .join(", ");
  const more = short.length > HOSTS_NAMED_MAX ? ` and ${short.length - HOSTS_NAMED_MAX} more` : "";
  const noRoom = `There is no room for the new size on ${hosts}${more}.`;
  if (steps.some(({ to }) => to.volume !== null)) {
    throw new AppError("capacity-insufficient", {
      detail: `${noRoom} Sets with a volume are not moved for their size: what is in it would stay behind, in the trash of that host. Make room there.`,
    });
  }
  if (ifNoRoom === "move") return;
  throw new AppError("capacity-insufficient", {
    detail: `${noRoom} Make room there, or ask with "ifNoRoom": "move" to have these sets replaced by others elsewhere.`,
  });
}

async function applySteps(
  ctx: ControlContext,
  tx: UnitOfWork,
  service: ServiceRow,
  plan: { sets: readonly SizedSet[]; steps: readonly ResizeStep[]; short: readonly ShortHost[] },
): Promise<string[]> {
  const { sets, steps, short } = plan;
  const shortIds = new Set(short.flatMap((host) => host.sets.map(({ id }) => id)));
  const inPlace = sets.filter(({ id, isGoing }) => !isGoing && !shortIds.has(id));
  for (const { revision, newRevision, to } of steps) {
    await insertRevision(tx, service.id, newRevision, to);
    const setIds = idsOf(inPlace.filter((set) => set.revision === revision));
    const amounts = amountsOfTemplate(to);
    if (setIds.length > 0) await resizeSets(tx, { setIds, toRevision: newRevision, amounts });
    const going = sets.filter((set) => set.isGoing && set.revision === revision);
    await retargetSets(tx, idsOf(going), newRevision);
  }
  const changed: ServiceRow = { ...service, revision: newestOf(steps).newRevision };
  changed.generation = await updateService(tx, changed);
  const moving = short.filter(({ isLost }) => !isLost).flatMap((host) => host.sets);
  await moveSets(ctx, tx, changed, { moving, steps });
  const left = short.filter(({ isLost }) => isLost);
  await leaveOnLostHosts(tx, left);
  const [size, leftCount] = [describeSize(steps), left.flatMap((host) => host.sets).length];
  const data = { revision: changed.revision, inPlace: inPlace.length, replaced: moving.length };
  tx.emit({
    kind: "service-resized",
    text: `${service.name} was resized to ${size}: ${inPlace.length} sets in place, ${moving.length} to be replaced`,
    tenantId: service.tenantId,
    serviceId: service.id,
    generation: changed.generation,
    data,
  });
  wakeFor(tx, changed, inPlace, moving.length > 0);
  await reconcileServiceSets(tx, changed);
  return [
    `${inPlace.length} sets get ${size} in place, without a restart.`,
    ...(moving.length > 0
      ? [
          `${moving.length} sets have no room for it where they are. One after the other is replaced by a new one elsewhere, and removed once that is ready.`,
        ]
      : []),
    ...(leftCount > 0
      ? [`${leftCount} sets on lost hosts keep their size: those hosts have no room for more.`]
      : []),
  ];
}

function idsOf(sets: readonly SizedSet[]): string[] {
  return sets.map(({ id }) => id);
}

/** Wakes the hosts of resized sets, the placer if some sets are pending, and the mover if some must move. */
function wakeFor(
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

/** Marks sets to be moved, after the planner has found a host for each with the new size. Throws capacity-insufficient. */
async function moveSets(
  ctx: ControlContext,
  tx: Queryable,
  service: ServiceRow,
  { moving, steps }: { moving: readonly SizedSet[]; steps: readonly ResizeStep[] },
): Promise<void> {
  if (moving.length === 0) return;
  const wanted = moving.map((set) => ({ set, step: stepOf(steps, set.revision) }));
  const rejection = await planMoves(
    ctx,
    tx,
    service,
    wanted.map(({ set, step }) => ({ setId: set.id, hostId: set.hostId, template: step.to })),
  );
  if (rejection !== undefined) {
    throw new AppError("capacity-insufficient", {
      detail: `${moving.length} sets would have to be replaced elsewhere, and no host has room for one of them: ${rejection}`,
    });
  }
  await markSetsMoving(
    tx,
    wanted.map(({ set, step }) => ({ setId: set.id, revision: step.newRevision })),
  );
}

/** What becomes of sets on lost hosts is their service's policy for lost hosts. Until then they are what they were. */
async function leaveOnLostHosts(tx: Queryable, hosts: readonly ShortHost[]): Promise<void> {
  const held = hosts.flatMap(({ name, why, sets }) =>
    sets.map(({ id }) => ({
      setId: id,
      reason: {
        code: "resize-refused",
        text: `${name} is lost and has no room for the new size (${why})`,
        phase: "resize",
      },
    })),
  );
  if (held.length > 0) await holdSetsBack(tx, held);
}

function describeSize(steps: readonly ResizeStep[]): string {
  const { to } = newestOf(steps);
  const volume = to.volume ? [`${to.volume.sizeBytes} bytes of volume`] : [];
  return [`${to.cpuMillis / 1000} cores`, `${to.memoryBytes} bytes of memory`, ...volume].join(
    ", ",
  );
}
