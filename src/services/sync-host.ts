import { AppError } from "../contracts/app-error.ts";
import {
  type DesiredSet,
  LEASE_SECONDS,
  SETS_PER_HOST_MAX,
  type Sync,
  type SyncResult,
} from "../contracts/agent.ts";
import type { Queryable } from "../db/client.ts";
import { insertEvents } from "../db/queries/events.ts";
import {
  findHostLease,
  type HostLeaseRow,
  listDesiredSets,
  renewLease,
  updateHostImages,
  updateHostState,
  updateHostUsage,
} from "../db/queries/host-writes.ts";
import { insertOutbox } from "../db/queries/outbox.ts";
import { lockHosts, retryPendingSets } from "../db/queries/set-writes.ts";
import { withTx } from "../db/tx.ts";
import { applyObserved } from "./apply-observed.ts";
import { closeServices } from "./close-services.ts";
import type { ServiceContext } from "./context.ts";
import { type Aftermath, carryOut, mergeAftermath } from "./reconcile-service.ts";

/** Leases are renewed by writes this far apart at most; syncs in between only read. */
const RENEW_AFTER_SECONDS = 10;

/**
 * One sync of a host's agent: takes in what it reports, then answers with what it should do, waiting for news up to `waitMs`.
 * The wait subscribes before it reads, so that nothing falls in between; a lost signal costs one wait.
 */
export async function syncHost(
  ctx: ServiceContext,
  hostId: string,
  body: Sync,
  signal: AbortSignal,
): Promise<SyncResult> {
  const lease = await findHostLease(ctx.db, hostId);
  if (!lease)
    throw new AppError("unauthenticated", { detail: "The host is not enrolled any more." });
  await takeReport(ctx, hostId, body, lease);

  const full = body.full || lease.resyncRequired;
  const news = body.waitMs > 0 ? startWait(ctx, hostId, body.waitMs, signal) : undefined;
  try {
    const answer = await readAnswer(ctx, hostId, body, full);
    if (!news || full || answer.sets.length > 0 || answer.streams.length > 0) return answer;
    await news.arrived;
    return await readAnswer(ctx, hostId, body, false);
  } finally {
    news?.stop();
  }
}

function startWait(ctx: ServiceContext, hostId: string, waitMs: number, signal: AbortSignal) {
  const controller = new AbortController();
  const arrived = ctx.signals.waitFor(
    `host:${hostId}`,
    waitMs,
    AbortSignal.any([signal, controller.signal]),
  );
  return { arrived, stop: () => controller.abort() };
}

/** Everything that the agent sent, in one transaction; most syncs send nothing and cost a lease renewal at most. */
async function takeReport(
  ctx: ServiceContext,
  hostId: string,
  body: Sync,
  lease: HostLeaseRow,
): Promise<void> {
  const state = stateOf(body, lease);
  if (body.observed.length === 0 && !body.usage && !body.images && !state) {
    await renewLease(ctx.db, hostId, leaseOf(body));
    return;
  }
  const { aftermath, removed } = await withTx(ctx.db, async (tx) => {
    await lockHosts(tx, [hostId]);
    await renewLease(tx, hostId, leaseOf(body));
    const observed = await applyObserved(tx, hostId, body.observed);
    if (body.usage) await updateHostUsage(tx, hostId, body.usage);
    if (body.images) await updateHostImages(tx, hostId, body.images);
    const parts: Aftermath[] = [observed];
    const becameReady = state !== undefined && (await changeState(tx, hostId, state, body));
    const isUsable = becameReady || (body.usage !== null && !hasFreshReport(ctx, lease));
    if (isUsable || observed.removed > 0) parts.push(await nudgePending(tx, hostId, body));
    return { aftermath: mergeAftermath(parts), removed: observed.removed };
  });
  await carryOut(ctx, aftermath);
  if (removed > 0) await closeServices(ctx);
}

/** Without one the host takes nothing new: its first report, or the first after a silence, is room gained. */
function hasFreshReport(ctx: ServiceContext, lease: HostLeaseRow): boolean {
  return lease.reportAgeMs !== null && lease.reportAgeMs <= ctx.settings.reportAgeMaxMs;
}

function leaseOf(body: Sync) {
  return {
    leaseSeconds: LEASE_SECONDS,
    renewAfterSeconds: RENEW_AFTER_SECONDS,
    acceptedGeneration: body.acceptedGeneration,
    agentVersion: body.agentVersion,
  };
}

/** The state that this sync puts the host in, or undefined when it says nothing new. */
function stateOf(body: Sync, lease: HostLeaseRow): "ready" | "unhealthy" | undefined {
  if (body.docker?.state === "unreachable")
    return lease.state === "unhealthy" ? undefined : "unhealthy";
  const isBack = lease.state === "lost" || lease.resyncRequired;
  // A host that was lost is ready again only once it has accepted everything that was decided without it.
  if (isBack && body.acceptedGeneration < lease.generation) return undefined;
  if (lease.state === "unhealthy" && body.docker === null) return undefined;
  return lease.state === "ready" && !lease.resyncRequired ? undefined : "ready";
}

/** True when the host takes sets from now on and did not before. */
async function changeState(
  tx: Queryable,
  hostId: string,
  state: "ready" | "unhealthy",
  body: Sync,
): Promise<boolean> {
  const reason =
    state === "ready"
      ? null
      : {
          code: "docker-unreachable",
          text: body.docker?.detail ?? "The Docker daemon does not answer.",
        };
  if (!(await updateHostState(tx, hostId, state, reason))) return false;
  await insertEvents(tx, [
    state === "ready"
      ? { kind: "host-ready", text: "the host is ready", hostId }
      : { kind: "host-unhealthy", text: reason?.text ?? "the host is unhealthy", hostId },
  ]);
  return state === "ready";
}

/** There is more room than there was: what waits out a backoff is planned now. */
async function nudgePending(tx: Queryable, hostId: string, body: Sync): Promise<Aftermath> {
  if (!(await retryPendingSets(tx))) return { rings: [], outboxIds: [], signals: [] };
  const ring = {
    name: "place-sets" as const,
    jobId: `place:${hostId}:gen${body.acceptedGeneration}-${Date.now()}`,
    payload: { cause: "room-gained" },
  };
  return { rings: [ring], outboxIds: await insertOutbox(tx, [ring]), signals: [] };
}

async function readAnswer(
  ctx: ServiceContext,
  hostId: string,
  body: Sync,
  full: boolean,
): Promise<SyncResult> {
  const [lease, streams] = await Promise.all([
    findHostLease(ctx.db, hostId),
    ctx.streams.takeRequests(hostId),
  ]);
  if (!lease)
    throw new AppError("unauthenticated", { detail: "The host is not enrolled any more." });
  const hasNews = full || lease.generation > body.acceptedGeneration;
  const sets = hasNews
    ? await listDesiredSets(ctx.db, hostId, full ? -1 : body.acceptedGeneration, SETS_PER_HOST_MAX)
    : [];
  return {
    // Read before the sets: what changes in between comes again with the next sync, and is never missed.
    hostGeneration: lease.generation,
    full,
    sets: sets satisfies DesiredSet[],
    streams,
    leaseSeconds: LEASE_SECONDS,
    serverTime: new Date().toISOString(),
  };
}
