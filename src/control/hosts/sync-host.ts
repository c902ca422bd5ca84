import { AppError } from "../../contracts/common/app-error.ts";
import {
  type DesiredSet,
  LEASE_SECONDS,
  PURGES_PER_SYNC_MAX,
  SETS_PER_HOST_MAX,
  type Sync,
  type SyncResult,
} from "../../contracts/agent-protocol/protocol.ts";
import type { ReportedVolume } from "../../contracts/api/volumes.ts";
import {
  DOCKER_UNREACHABLE,
  findHostLease,
  type HostLeaseRow,
  listDesiredSets,
  raiseHostGeneration,
  renewLease,
  renewLeaseOnly,
  renewOnlyLease,
  tryUpdateHostUsage,
  updateHostImages,
  updateHostState,
  updateHostUsage,
} from "../../db/queries/hosts/write-hosts.ts";
import { lockHosts } from "../../db/queries/sets/write-sets.ts";
import { listPurges, storeHostVolumes } from "../../db/queries/volumes/volumes.ts";
import { assert } from "../../lib/assert.ts";
import { applyObserved, lockObservedSets } from "./apply-observed.ts";
import { closeServices } from "../services/close-services.ts";
import { volumeEvent } from "./volume-event.ts";
import type { ControlContext, UnitOfWork } from "../runtime/context.ts";
import { unitOfWork } from "../runtime/unit-of-work.ts";
import type { HostCaller } from "./enroll-host.ts";
import { retryPending } from "../placement/retry-pending.ts";

/** The planner puts fewer on a host; should there be more, they are still all told, as what is not told would be removed. */
const DESIRED_SETS_MAX = 2 * SETS_PER_HOST_MAX;

/** Where one set was, so many that wait are tried. The others are when their backoff is over, in half a minute at most. */
const WAITING_PER_FREED_MAX = 100;

/** Syncs that write nothing else renew a lease only when it is older; one that then waits 25 s ends well before it. */
const RENEW_AFTER_SECONDS = 10;
/** With less left a sync waits for the lock of its host, in a transaction. */
const LEASE_RESERVE_SECONDS = 20;

/**
 * One sync of a host's agent: takes in what it reports, then answers with what it should do, waiting for news up to `waitMs`.
 * The wait subscribes before it reads, so that nothing falls in between. When no signal comes nothing is read again: a lost
 * one costs one wait, as the next sync reads first. A sync that only reports is told what was known when it came: the
 * host's other sync waits for the rest.
 */
export async function syncHost(
  ctx: ControlContext,
  caller: HostCaller,
  body: Sync,
  signal: AbortSignal,
): Promise<SyncResult> {
  const { hostId } = caller;
  const isAhead = body.acceptedGeneration > caller.generation;
  const host = isAhead ? await continueAfterAgent(ctx, caller, body) : caller;
  const isBack = host.state !== "ready" && stateOf(body, host) === "ready";
  const full = body.full || isBack || isAhead || host.state === "lost";
  if (body.waitMs === 0 && !full) {
    await takeReport(ctx, body, host, signal);
    return answerOf(ctx, host, body, false, []);
  }
  const news = startWait(ctx, hostId, body.waitMs, signal);
  try {
    const after = await takeReport(ctx, body, host, signal);
    const answer = await readAnswer(ctx, hostId, body, full, after);
    if (body.waitMs === 0 || full || hasNewsIn(answer)) return answer;
    if (!(await news.arrived)) return { ...answer, serverTime: new Date().toISOString() };
    return await readAnswer(ctx, hostId, body, false);
  } finally {
    news.stop();
  }
}

/**
 * The agent has accepted a newer generation than the database has: a failover to a replica lost the last changes. Without
 * newer generations the agent would refuse every answer as stale, so the host continues after what its agent has accepted.
 */
async function continueAfterAgent(
  ctx: ControlContext,
  host: HostCaller,
  { acceptedGeneration }: Sync,
): Promise<HostCaller> {
  const { hostId } = host;
  const generation = await unitOfWork(ctx, async (tx) => {
    const raised = await raiseHostGeneration(tx, hostId, acceptedGeneration);
    if (raised !== undefined) {
      const data = { acceptedGeneration, databaseGeneration: host.generation };
      tx.emit({ kind: "host-ahead", data, hostId });
    }
    return raised;
  });
  if (generation === undefined) return (await findHostLease(ctx.db, { hostId })) ?? host;
  ctx.log.error(
    { hostId, acceptedGeneration, databaseGeneration: host.generation },
    "the database lost changes that an agent had accepted",
  );
  return { ...host, generation };
}

/** Renews the lease of a host whose sync was rejected: a part that Berth does not take proves that the host is up. */
export async function renewLeaseOfRejectedSync(
  ctx: ControlContext,
  { hostId }: HostCaller,
): Promise<void> {
  await renewLeaseOnly(ctx.db, hostId, LEASE_SECONDS);
}

function hasNewsIn({ sets, streams, purgeVolumes }: SyncResult): boolean {
  return sets.length + streams.length + purgeVolumes.length > 0;
}

function startWait(ctx: ControlContext, hostId: string, waitMs: number, signal: AbortSignal) {
  const controller = new AbortController();
  const stop = (): void => {
    signal.removeEventListener("abort", stop);
    controller.abort(waitIsOver);
  };
  signal.addEventListener("abort", stop);
  return { arrived: ctx.signals.waitFor(`host:${hostId}`, waitMs, controller.signal), stop };
}

/** Every sync ends its wait: without a reason of its own each would make an exception, with its stack. */
const waitIsOver = "the wait is over";

/**
 * Everything that the agent sent, in one transaction; most syncs send what is used at most, and cost one statement. Gives the
 * host's row when it was read again in passing.
 */
async function takeReport(
  ctx: ControlContext,
  body: Sync,
  host: HostCaller,
  signal: AbortSignal,
): Promise<HostLeaseRow | undefined> {
  const { hostId } = host;
  const state = stateOf(body, host);
  const isRenewalDue = host.leaseSecondsLeft < LEASE_SECONDS - RENEW_AFTER_SECONDS;
  if (body.observed.length === 0 && !body.images && !body.volumes && !state) {
    // The next report repeats what a locked row refuses, unless the lease would be short by then.
    const mayRepeat = host.leaseSecondsLeft > LEASE_RESERVE_SECONDS;
    if (!body.usage) {
      if (!isRenewalDue) return undefined;
      if ((await renewOnlyLease(ctx.db, hostId, leaseOf(body))) || mayRepeat) return undefined;
    } else if (hasFreshReport(ctx, host)) {
      const after = await tryUpdateHostUsage(ctx.db, hostId, body.usage, leaseOf(body));
      if (after === "locked" && mayRepeat) return undefined;
      if (after !== undefined && after !== "locked") return after;
    }
  }
  const store = (): Promise<number> => {
    // It waited for its turn, and its agent has gone to say it again.
    if (signal.aborted) throw new AppError("request-timeout", { detail: "Nobody waits for it." });
    return unitOfWork(ctx, async (tx) => {
      // What does not need another's answer shares a round trip; Postgres carries it out in this order.
      const [, , rows] = await Promise.all([
        lockHosts(tx, [hostId]),
        isRenewalDue && !body.usage ? renewLease(tx, hostId, leaseOf(body)) : undefined,
        lockObservedSets(tx, hostId, body.observed),
      ]);
      const [observed, , , , becameReady] = await Promise.all([
        applyObserved(tx, hostId, body.observed, rows),
        body.usage ? updateHostUsage(tx, hostId, body.usage, leaseOf(body)) : undefined,
        body.images ? updateHostImages(tx, hostId, body.images) : undefined,
        body.volumes ? storeVolumes(tx, hostId, body.volumes) : undefined,
        state !== undefined && changeState(tx, hostId, state, body),
      ]);
      const isUsable = becameReady || (body.usage !== null && !hasFreshReport(ctx, host));
      const setsMax = isUsable ? undefined : WAITING_PER_FREED_MAX * Math.max(1, observed.removed);
      if (isUsable || observed.hasFreedRoom)
        await retryPending(tx, hostId, "capacity-gained", setsMax);
      return observed.removed;
    });
  };
  const removed = await (body.observed.length > 0 ? ctx.reportWriteLimit(store) : store());
  if (removed > 0) await closeServices(ctx);
  return undefined;
}

async function storeVolumes(
  tx: UnitOfWork,
  hostId: string,
  volumes: readonly ReportedVolume[],
): Promise<void> {
  const changes = await storeHostVolumes(tx, hostId, volumes);
  tx.emit(...changes.map((change) => volumeEvent(change, hostId)));
}

/** Without one the host takes nothing new: its first report, or the first after a silence, is room gained. */
function hasFreshReport(ctx: ControlContext, lease: HostCaller): boolean {
  return lease.reportAgeMs !== null && lease.reportAgeMs <= ctx.settings.reportAgeMaxMs;
}

function leaseOf(body: Sync) {
  return {
    leaseSeconds: LEASE_SECONDS,
    acceptedGeneration: body.acceptedGeneration,
    agentVersion: body.agentVersion,
  };
}

/** The state that this sync puts the host in, or undefined when it says nothing new. */
function stateOf(body: Sync, lease: HostCaller): "ready" | "unhealthy" | undefined {
  if (body.docker?.state === "unreachable")
    return lease.state === "unhealthy" ? undefined : "unhealthy";
  const isBack = lease.state === "lost" || lease.resyncRequired;
  // A host that was lost is ready again only once it has accepted everything that was decided without it.
  if (isBack && body.acceptedGeneration < lease.generation) return undefined;
  // Nor does it leave its state without a word about its Docker.
  if ((isBack || lease.state === "unhealthy") && body.docker === null) return undefined;
  return lease.state === "ready" && !lease.resyncRequired ? undefined : "ready";
}

/** True when the host takes sets from now on and did not before. */
async function changeState(
  tx: UnitOfWork,
  hostId: string,
  state: "ready" | "unhealthy",
  body: Sync,
): Promise<boolean> {
  const reason =
    state === "ready"
      ? null
      : {
          code: DOCKER_UNREACHABLE,
          text: body.docker?.detail ?? "The Docker daemon does not respond.",
        };
  if (!(await updateHostState(tx, hostId, state, reason, body.acceptedGeneration))) return false;
  if (reason === null) tx.emit({ kind: "host-ready", data: {}, hostId });
  else tx.emit({ kind: "host-unhealthy", data: { reason: reason.text }, hostId });
  return state === "ready";
}

/** @param lease the host's row, if it was read since the wait began */
async function readAnswer(
  ctx: ControlContext,
  hostId: string,
  body: Sync,
  full: boolean,
  lease?: HostLeaseRow,
): Promise<SyncResult> {
  const [row, streams] = await Promise.all([
    lease ?? findHostLease(ctx.db, { hostId }),
    ctx.streams.takeRequests(hostId),
  ]);
  if (!row) throw new AppError("unauthenticated", { detail: "The host is not enrolled any more." });
  return answerOf(ctx, row, body, full, streams);
}

async function answerOf(
  ctx: ControlContext,
  { hostId, generation, state }: HostLeaseRow,
  body: Sync,
  full: boolean,
  streams: SyncResult["streams"],
): Promise<SyncResult> {
  const hasNews = full || generation > body.acceptedGeneration;
  const after = full ? -1 : body.acceptedGeneration;
  const [rows, purgeVolumes] = hasNews
    ? await Promise.all([
        listDesiredSets(ctx.db, hostId, after, DESIRED_SETS_MAX),
        listPurges(ctx.db, hostId, PURGES_PER_SYNC_MAX),
      ])
    : [[], []];
  assert(rows.length < DESIRED_SETS_MAX, "a host has no more sets than an answer holds");
  const sets: DesiredSet[] = [];
  const reportAgain: string[] = [];
  for (const { isUnknown, ...set } of rows) {
    sets.push(set);
    if (full && isUnknown && state !== "unhealthy") reportAgain.push(set.setId);
  }
  return {
    // Read before the sets: what changes in between comes again with the next sync, and is never missed.
    hostGeneration: generation,
    full,
    sets,
    streams,
    // Again with every full answer, until the agent has looked and its report has arrived.
    reportAgain,
    purgeVolumes,
    leaseSeconds: LEASE_SECONDS,
    serverTime: new Date().toISOString(),
  };
}
