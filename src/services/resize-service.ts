import { AppError, notFound } from "../contracts/app-error.ts";
import type { ResizeService, ServiceChange } from "../contracts/services.ts";
import type { SetTemplate } from "../contracts/set-template.ts";
import type { Queryable } from "../db/client.ts";
import { insertEvents } from "../db/queries/events.ts";
import { listAllHostPools, lockFleetHosts } from "../db/queries/fleet.ts";
import {
  listSetsByRevision,
  readSetMemory,
  resizeSets,
  type RevisionSets,
} from "../db/queries/resizes.ts";
import {
  findTemplate,
  insertRevision,
  lockServiceByName,
  type ServiceRow,
  updateService,
} from "../db/queries/service-writes.ts";
import { markSetsDeleted } from "../db/queries/set-writes.ts";
import { withTx } from "../db/tx.ts";
import { assert } from "../lib/assert.ts";
import { fitsHost } from "../scheduler/fits.ts";
import type { Resources } from "../scheduler/model.ts";
import type { ServiceContext, SignalChannel } from "./context.ts";
import { hostSnapshotOf, planPolicyOf } from "./fleet-cache.ts";
import { assertGeneration, assertNotDeleting } from "./generation.ts";
import { getService } from "./get-service.ts";
import { assertWithinQuota } from "./quota.ts";
import {
  type Aftermath,
  carryOut,
  mergeAftermath,
  reconcileServiceSets,
} from "./reconcile-service.ts";

const HOSTS_NAMED_MAX = 5;

/**
 * Gives all sets of a service other amounts of CPU, memory or volume, in place: their agents change the limits of what runs.
 * The new size is checked and booked first, on locked hosts (I2), all or nothing. Each revision that has sets gets a copy with the new
 * amounts; the newest copy is the service's. Throws not-found, generation-mismatch, state-conflict, quota-exceeded,
 * invalid-request (a smaller volume, or less memory than is used), capacity-insufficient.
 */
export async function resizeService(
  ctx: ServiceContext,
  tenantId: string,
  name: string,
  body: ResizeService,
  generation: number | undefined,
): Promise<ServiceChange> {
  const { effects, aftermath } = await withTx(ctx.db, async (tx) => {
    const service = await lockServiceByName(tx, tenantId, name);
    if (!service) throw notFound("service");
    assertGeneration(service, generation);
    assertNotDeleting(service);
    const sets = await listSetsByRevision(tx, service.id);
    const steps = await planSteps(tx, service, sets, body);
    if (steps.every(({ from, to }) => isSameSize(from, to)))
      return { effects: ["No set is touched: that is their size already."], aftermath: undefined };
    await assertQuota(tx, service, steps);
    await assertMemoryUse(tx, sets, steps);
    const short = await findShortHosts(tx, sets, steps);
    if (short.length > 0) assertMayMove(body, short, steps);
    return carryOutSteps(tx, service, { sets, steps, short });
  });
  if (aftermath) await carryOut(ctx, aftermath);
  return { service: await getService(ctx, tenantId, name), effects };
}

/** A revision and the copy of it with the new amounts. */
interface Step {
  revision: number;
  newRevision: number;
  from: SetTemplate;
  to: SetTemplate;
}

/** Oldest first, so that the copy of the service's own revision is its newest. */
async function planSteps(
  tx: Queryable,
  service: ServiceRow,
  sets: readonly RevisionSets[],
  body: ResizeService,
): Promise<Step[]> {
  const inUse = sets.map(({ revision }) => revision);
  const revisions = [...new Set([...inUse, service.revision])].sort((a, b) => a - b);
  const steps: Step[] = [];
  for (const [position, revision] of revisions.entries()) {
    const from = await findTemplate(tx, service.id, revision);
    assert(from, "a revision that sets are of exists");
    steps.push({
      revision,
      newRevision: service.revision + 1 + position,
      from,
      to: resized(from, body),
    });
  }
  return steps;
}

function resized(template: SetTemplate, body: ResizeService): SetTemplate {
  const { volume } = template;
  if (body.volume !== undefined && !volume) {
    throw invalid("/volume", "The service has no volume in its template; sets cannot get one now.");
  }
  if (body.volume !== undefined && volume && body.volume < volume.sizeBytes) {
    throw invalid("/volume", `Volumes grow only: this one has ${volume.sizeBytes} bytes.`);
  }
  return {
    ...template,
    cpuMillis: body.cpu ?? template.cpuMillis,
    memoryBytes: body.memory ?? template.memoryBytes,
    volume: volume && { ...volume, sizeBytes: body.volume ?? volume.sizeBytes },
  };
}

function isSameSize(a: SetTemplate, b: SetTemplate): boolean {
  return (
    a.cpuMillis === b.cpuMillis &&
    a.memoryBytes === b.memoryBytes &&
    a.volume?.sizeBytes === b.volume?.sizeBytes
  );
}

/** What counts for the quota is the newest revision times the replicas. */
async function assertQuota(
  tx: Queryable,
  service: ServiceRow,
  steps: readonly Step[],
): Promise<void> {
  const newest = steps.at(-1);
  assert(newest, "the service's own revision is among the steps");
  const { from, to } = newest;
  await assertWithinQuota(tx, service.tenantId, {
    sets: 0,
    cpuMillis: service.desiredReplicas * (to.cpuMillis - from.cpuMillis),
    memoryBytes: service.desiredReplicas * (to.memoryBytes - from.memoryBytes),
  });
}

/** The kernel would refuse it, or kill: less memory than is used is refused here, with the figure. */
async function assertMemoryUse(
  tx: Queryable,
  sets: readonly RevisionSets[],
  steps: readonly Step[],
): Promise<void> {
  const shrinking = new Map(
    steps
      .filter(({ from, to }) => to.memoryBytes < from.memoryBytes)
      .map(({ revision, to }) => [revision, to.memoryBytes]),
  );
  const concerned = sets.filter(({ revision }) => shrinking.has(revision));
  if (concerned.length === 0) return;
  const use = await readSetMemory(tx, hostIdsOf(concerned));
  for (const { revision, setIds } of concerned) {
    const limitBytes = shrinking.get(revision) ?? 0;
    const over = setIds.find((setId) => (use.get(setId) ?? 0) > limitBytes);
    if (over === undefined) continue;
    const usedBytes = use.get(over) ?? 0;
    throw invalid(
      "/memory",
      `Set ${over} uses ${usedBytes} bytes of memory, more than ${limitBytes}.`,
    );
  }
}

interface ShortHost {
  hostId: string;
  name: string;
  why: string;
  setIds: string[];
}

/** Locks all hosts of the sets, and gives those that have no room for the growth. */
async function findShortHosts(
  tx: Queryable,
  sets: readonly RevisionSets[],
  steps: readonly Step[],
): Promise<ShortHost[]> {
  const [pools, rows] = await Promise.all([
    listAllHostPools(tx),
    lockFleetHosts(tx, hostIdsOf(sets)),
  ]);
  const policy = planPolicyOf(pools, 0);
  return rows.flatMap((row) => {
    const here = sets.filter(({ hostId }) => hostId === row.id);
    const pool = policy.pools.find((candidate) => candidate.pool === row.pool);
    assert(pool, `host pool ${row.pool} has a policy`);
    const fit = fitsHost(hostSnapshotOf(row), pool, growthOf(here, steps));
    if (fit.ok) return [];
    const why = `${fit.reason} by ${fit.shortBy}`;
    const setIds = here.flatMap((group) => group.setIds);
    return [{ hostId: row.id, name: row.name, why, setIds }];
  });
}

function growthOf(sets: readonly RevisionSets[], steps: readonly Step[]): Resources {
  const growth = { cpuMillis: 0, memoryBytes: 0, volumeBytes: 0, rootfsBytes: 0 };
  for (const { revision, setIds } of sets) {
    const step = steps.find((candidate) => candidate.revision === revision);
    assert(step, "each revision that sets are of has a step");
    const { from, to } = step;
    growth.cpuMillis += setIds.length * (to.cpuMillis - from.cpuMillis);
    growth.memoryBytes += setIds.length * (to.memoryBytes - from.memoryBytes);
    growth.volumeBytes +=
      setIds.length * ((to.volume?.sizeBytes ?? 0) - (from.volume?.sizeBytes ?? 0));
  }
  return {
    cpuMillis: Math.max(0, growth.cpuMillis),
    memoryBytes: Math.max(0, growth.memoryBytes),
    volumeBytes: Math.max(0, growth.volumeBytes),
    rootfsBytes: 0,
  };
}

function assertMayMove(
  { ifNoRoom }: ResizeService,
  short: readonly ShortHost[],
  steps: readonly Step[],
): void {
  const hosts = short
    .slice(0, HOSTS_NAMED_MAX)
    .map(({ name, why, setIds }) => `${name} (${setIds.length} sets, ${why})`)
    .join(", ");
  const more = short.length > HOSTS_NAMED_MAX ? ` and ${short.length - HOSTS_NAMED_MAX} more` : "";
  const noRoom = `There is no room for the new size on ${hosts}${more}.`;
  if (steps.some(({ to }) => to.volume !== null)) {
    throw new AppError("capacity-insufficient", {
      detail: `${noRoom} Sets with a volume stay where it is: make room there.`,
    });
  }
  if (ifNoRoom === "move") return;
  throw new AppError("capacity-insufficient", {
    detail: `${noRoom} Make room there, or ask with "ifNoRoom": "move" to have these sets replaced by new ones elsewhere.`,
  });
}

async function carryOutSteps(
  tx: Queryable,
  service: ServiceRow,
  plan: { sets: readonly RevisionSets[]; steps: readonly Step[]; short: readonly ShortHost[] },
): Promise<{ effects: string[]; aftermath: Aftermath }> {
  const { sets, steps, short } = plan;
  const movedIds = short.flatMap(({ setIds }) => setIds);
  const signals = new Set<SignalChannel>([`service:${service.id}`]);
  let resizedCount = 0;
  for (const { revision, newRevision, to } of steps) {
    await insertRevision(tx, service.id, newRevision, to);
    const changed = await resizeSets(tx, {
      serviceId: service.id,
      fromRevision: revision,
      toRevision: newRevision,
      amounts: {
        cpuMillis: to.cpuMillis,
        memoryBytes: to.memoryBytes,
        volumeBytes: to.volume?.sizeBytes ?? 0,
      },
      exceptSetIds: movedIds,
    });
    resizedCount += changed.length;
    for (const { hostId } of changed) if (hostId !== null) signals.add(`host:${hostId}`);
  }
  const revision = steps.at(-1)?.newRevision ?? service.revision;
  const changed: ServiceRow = { ...service, revision };
  changed.generation = await updateService(tx, changed);
  const moved = await markSetsDeleted(tx, movedIds, hostIdsOf(sets));
  for (const { hostId } of moved) if (hostId !== null) signals.add(`host:${hostId}`);
  const size = describeSize(steps);
  await insertEvents(tx, [
    {
      kind: "service-resized",
      text: `${service.name} was resized to ${size}: ${resizedCount} sets in place, ${moved.length} replaced`,
      tenantId: service.tenantId,
      serviceId: service.id,
      generation: changed.generation,
      data: { revision, inPlace: resizedCount, replaced: moved.length },
    },
  ]);
  const own: Aftermath = { rings: [], outboxIds: [], signals: [...signals] };
  return {
    effects: [
      `${resizedCount} sets get ${size} in place, without a restart.`,
      ...(moved.length > 0 ? [`${moved.length} sets are replaced by new ones elsewhere.`] : []),
    ],
    aftermath: mergeAftermath([own, await reconcileServiceSets(tx, changed)]),
  };
}

function describeSize(steps: readonly Step[]): string {
  const to = steps.at(-1)?.to;
  assert(to, "the service's own revision is among the steps");
  const volume = to.volume ? [`${to.volume.sizeBytes} bytes of volume`] : [];
  return [`${to.cpuMillis / 1000} cores`, `${to.memoryBytes} bytes of memory`, ...volume].join(
    ", ",
  );
}

function hostIdsOf(sets: readonly RevisionSets[]): string[] {
  return [...new Set(sets.flatMap(({ hostId }) => hostId ?? []))].sort();
}

function invalid(pointer: string, detail: string): AppError {
  return new AppError("invalid-request", { detail, errors: [{ pointer, detail }] });
}
