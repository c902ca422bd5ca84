import { renderReasonText } from "../../contracts/api/reason-texts.ts";
import { AppError } from "../../contracts/common/app-error.ts";
import type { SessionRequest } from "../../contracts/agent-protocol/session-request.ts";
import type { DesiredSet } from "../../contracts/agent-protocol/desired-set.ts";
import { listDesiredSets } from "../../db/queries/hosts/desired-sets.ts";
import {
  LEASE_SECONDS,
  PURGES_PER_SYNC_MAX,
  SETS_PER_HOST_MAX,
} from "../../contracts/agent-protocol/protocol.ts";
import type { Sync, SyncResult } from "../../contracts/agent-protocol/sync.ts";
import type { ReportedVolume, UnreadableVolume } from "../../contracts/api/volumes.ts";
import {
  DOCKER_UNREACHABLE,
  findHostLease,
  GENERATION_LEAD_MAX,
  type HostLeaseRow,
  raiseHostGeneration,
  renewLease,
  renewLeaseAfterRejection,
  renewOnlyLease,
  storeRefusedGeneration,
  tryUpdateHostUsage,
  updateHostImages,
  updateHostState,
  updateHostUsage,
} from "../../db/queries/hosts/write-hosts.ts";
import { findPrefetches } from "../../db/queries/rollouts/host-images.ts";
import { lockHosts } from "../../db/queries/sets/write-sets.ts";
import { listPurges, storeHostVolumes } from "../../db/queries/volumes/volumes.ts";
import { assert } from "../../lib/assert.ts";
import { applyObserved, lockObservedSets } from "./apply-observed.ts";
import { closeServices } from "../services/close-services.ts";
import { resolveUnlistedSets } from "./unlisted-sets.ts";
import { listHostCredentials } from "./list-host-credentials.ts";
import { volumeEvent } from "./volume-event.ts";
import type { ControlContext, UnitOfWork } from "../runtime/context.ts";
import { unitOfWork } from "../runtime/unit-of-work.ts";
import type { HostCaller } from "./authenticate-host.ts";
import { hasNewsIn } from "./has-news.ts";
import { takePrefetched } from "./take-prefetched.ts";
import { createHostRefusal } from "./refuse-host.ts";
import { replaceHostPorts } from "../placement/replace-host-ports.ts";
import { retryPending } from "../placement/retry-pending.ts";

/**
 * The planner places fewer sets on a host. The response must contain all of them, because the agent
 * removes sets that a full response omits.
 */
const DESIRED_SETS_MAX = 2 * SETS_PER_HOST_MAX;

/** Pending sets that are retried per removed set. The others are retried after their backoff. */
const WAITING_PER_FREED_MAX = 100;

/**
 * Syncs that write nothing else renew a lease only if it is older. A sync that then waits for 25 s
 * ends well before the lease.
 */
const RENEW_AFTER_SECONDS = 10;
/** With less time left, a sync waits for the lock of its host in a transaction. */
const LEASE_RESERVE_SECONDS = 20;
/** One line of the log names at most this many unknown tenants or unreadable volumes. */
const LOGGED_NAMES_MAX = 10;

/**
 * Handles one sync of an agent. It stores the report, waits up to `waitMs` for changed desired
 * sets, and returns them. It subscribes before it reads, so that it misses no change. Without a
 * signal it does not read again: a lost signal costs one wait, because the next sync reads first. A
 * sync that only reports does not wait, because another sync of the host does.
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
  const isBack = host.state !== "ready" && findNewState(body, host) === "ready";
  const full = body.full || isBack || isAhead || host.state === "lost";
  if (body.waitMs === 0 && !full) {
    await takeReport(ctx, body, host, signal);
    return buildAnswer(ctx, host, body, { full: false });
  }
  const news = startWait(ctx, hostId, body.waitMs, signal);
  try {
    const after = await takeReport(ctx, body, host, signal);
    const answer = await readAnswer(ctx, hostId, body, { full, lease: after }, signal);
    if (body.waitMs === 0 || full || hasNewsIn(answer)) return answer;
    if (!(await news.arrived)) return { ...answer, serverTime: new Date().toISOString() };
    return await readAnswer(ctx, hostId, body, { full: false, isWoken: true }, signal);
  } finally {
    news.stop();
  }
}

/**
 * Raises the generation of a host whose agent has accepted a newer one: a failover to a replica
 * lost the last changes. Otherwise the agent would reject each answer as stale. Throws
 * invalid-request if the lead is too large for lost changes.
 */
async function continueAfterAgent(
  ctx: ControlContext,
  host: HostCaller,
  { acceptedGeneration }: Sync,
): Promise<HostCaller> {
  const { hostId } = host;
  if (acceptedGeneration - host.generation > GENERATION_LEAD_MAX)
    throw await refuseGeneration(ctx, host, acceptedGeneration);
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

/**
 * Stores the generation of a corrupt agent until the next accepted sync, as the reason of its host.
 * It emits one event and logs one error, however often the host repeats the sync. Without a fresh
 * report the host gets no new sets. Its running sets stay.
 */
async function refuseGeneration(
  ctx: ControlContext,
  { hostId, generation }: HostCaller,
  acceptedGeneration: number,
): Promise<AppError> {
  const generations = { acceptedGeneration, databaseGeneration: generation };
  const data = { ...generations, isRefused: true };
  const isNew = await unitOfWork(ctx, async (tx) => {
    const isStored = await storeRefusedGeneration(tx, hostId, acceptedGeneration);
    if (isStored) tx.emit({ kind: "host-ahead", data, hostId });
    return isStored;
  });
  if (isNew) ctx.log.error({ hostId, ...generations }, "refused the generation of a corrupt agent");
  const detail = "The accepted generation is far above that of the database.";
  return new AppError("invalid-request", {
    detail,
    errors: [{ pointer: "/acceptedGeneration", detail }],
    meta: { hostId, ...data },
  });
}

/** Renews the lease of a host whose sync is rejected: even an invalid sync proves that it is up. */
export async function renewLeaseAfterRejectedSync(
  ctx: ControlContext,
  { hostId }: HostCaller,
): Promise<void> {
  await renewLeaseAfterRejection(ctx.db, hostId, LEASE_SECONDS);
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

/**
 * The reason of an ended wait. Each abort without a reason would create an exception with a stack.
 */
const waitIsOver = "the wait is over";

/**
 * Stores the report of an agent in one transaction. Most syncs report at most usage, and cost one
 * statement. Returns the row of the host if the statement returned it.
 */
async function takeReport(
  ctx: ControlContext,
  body: Sync,
  host: HostCaller,
  signal: AbortSignal,
): Promise<HostLeaseRow | undefined> {
  const { hostId } = host;
  const state = findNewState(body, host);
  // A renewal also stores the accepted generation, which ends the refusal of the last one.
  const isRenewalDue =
    host.hasRefusedGeneration || host.leaseSecondsLeft < LEASE_SECONDS - RENEW_AFTER_SECONDS;
  const { images, volumes, prefetched } = body;
  if (body.observed.length === 0 && !images && !volumes && !prefetched && !state) {
    // The next report repeats usage that a locked row prevents, unless the lease would be too
    // short.
    const mayRepeat = host.leaseSecondsLeft > LEASE_RESERVE_SECONDS;
    if (!body.usage) {
      if (!isRenewalDue) return undefined;
      if ((await renewOnlyLease(ctx.db, hostId, toLeaseRenewal(body))) || mayRepeat)
        return undefined;
    } else if (hasFreshReport(ctx, host)) {
      const after = await tryUpdateHostUsage(ctx.db, hostId, body.usage, toLeaseRenewal(body));
      if (after === "locked" && mayRepeat) return undefined;
      if (after !== undefined && after !== "locked") return after;
    }
  }
  const store = (): Promise<readonly string[]> => {
    // The report waited for its turn, and its agent has disconnected to send it again.
    if (signal.aborted) throw disconnected();
    return unitOfWork(ctx, async (tx) => {
      // Independent statements share a round trip. Postgres runs them in this order.
      const [, , rows] = await Promise.all([
        lockHosts(tx, [hostId]),
        isRenewalDue && !body.usage ? renewLease(tx, hostId, toLeaseRenewal(body)) : undefined,
        lockObservedSets(tx, hostId, body.observed),
      ]);
      const [observed, , , , becameReady] = await Promise.all([
        applyObserved(tx, hostId, body.observed, rows),
        body.usage ? updateHostUsage(tx, hostId, body.usage, toLeaseRenewal(body)) : undefined,
        body.images ? updateHostImages(tx, hostId, body.images) : undefined,
        body.volumes ? storeVolumes(ctx, tx, hostId, body.volumes) : undefined,
        state !== undefined && changeState(tx, hostId, state, body),
      ]);
      if (prefetched) await takePrefetched(tx, hostId, prefetched);
      await replaceHostPorts(tx, ctx, hostId, { observed: body.observed, reported: rows });
      const isUsable = becameReady || (body.usage !== null && !hasFreshReport(ctx, host));
      const setsMax = isUsable ? undefined : WAITING_PER_FREED_MAX * Math.max(1, observed.removed);
      if (isUsable || observed.hasFreedCapacity)
        await retryPending(tx, hostId, "capacity-gained", setsMax);
      return observed.removedServiceIds;
    });
  };
  const serviceIds = await (body.observed.length > 0 ? ctx.reportWriteLimit(store) : store());
  if (serviceIds.length > 0) {
    // The report is stored. After an error, the `service-deletion` sweep closes the services.
    await closeServices(ctx, serviceIds).catch((error: unknown) => {
      ctx.log.warn({ err: error, hostId }, "cannot close deleted services");
    });
  }
  return undefined;
}

/**
 * Stores a report of volumes. A report with a null entry proves no volume absent (I12). The log
 * shows unreadable entries and unknown tenants.
 */
async function storeVolumes(
  ctx: ControlContext,
  tx: UnitOfWork,
  hostId: string,
  reported: readonly (ReportedVolume | UnreadableVolume | null)[],
): Promise<void> {
  const volumes = reported.filter((volume) => volume !== null);
  const isComplete = volumes.length === reported.length;
  const described = volumes.filter((volume) => "state" in volume);
  if (described.length < reported.length) {
    const unreadable = reported.length - described.length;
    const ids = volumes.flatMap((volume) => ("state" in volume ? [] : volume.volumeId));
    const volumeIds = ids.slice(0, LOGGED_NAMES_MAX);
    ctx.log.error({ hostId, unreadable, volumeIds }, "a volume report has unreadable entries");
  }
  const { changes, unknownTenants: tenants } = await storeHostVolumes(tx, hostId, volumes, {
    isComplete,
    unknownTenantsMax: LOGGED_NAMES_MAX,
  });
  if (tenants.length > 0)
    ctx.log.error({ hostId, tenants }, "a volume report names unknown tenants");
  tx.emit(...changes.map((change) => volumeEvent(change, hostId)));
}

/** Without a fresh report, a host gets no new sets. Its next report is a gain of capacity. */
function hasFreshReport(ctx: ControlContext, lease: HostCaller): boolean {
  return lease.reportAgeMs !== null && lease.reportAgeMs <= ctx.settings.reportAgeMaxMs;
}

function toLeaseRenewal(body: Sync) {
  return {
    leaseSeconds: LEASE_SECONDS,
    acceptedGeneration: body.acceptedGeneration,
    agentVersion: body.agentVersion,
  };
}

/** Returns the state that the host enters by this sync, or undefined if it does not change. */
function findNewState(body: Sync, lease: HostCaller): "ready" | "unhealthy" | undefined {
  if (body.docker?.state === "unreachable")
    return lease.state === "unhealthy" ? undefined : "unhealthy";
  const isBack = lease.state === "lost" || lease.resyncRequired;
  // A lost host becomes ready only after it has accepted all decisions about its sets.
  if (isBack && body.acceptedGeneration < lease.generation) return undefined;
  // A host leaves its state only with a report about its Docker daemon.
  if ((isBack || lease.state === "unhealthy") && body.docker === null) return undefined;
  return lease.state === "ready" && !lease.resyncRequired ? undefined : "ready";
}

/** Changes the state of a host. Returns whether the host accepts sets from now on. */
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
          text: renderReasonText(DOCKER_UNREACHABLE, { reason: body.docker?.detail ?? null }),
        };
  const serviceIds = await updateHostState(tx, hostId, state, reason, body.acceptedGeneration);
  if (!serviceIds) return false;
  tx.signal(...serviceIds.map((id) => `service:${id}` as const));
  if (reason === null) tx.emit({ kind: "host-ready", data: {}, hostId });
  else tx.emit({ kind: "host-unhealthy", data: { reason: reason.text }, hostId });
  return state === "ready";
}

/** The host repeats the call. */
function disconnected(): AppError {
  return new AppError("request-timeout", { detail: "The agent disconnected." });
}

interface AnswerOptions {
  full: boolean;
  /** A signal ended the wait of the sync. Changed credentials have no other news. */
  isWoken?: boolean;
}

/**
 * Reads the response under a limit of answers. It awaits Redis outside the limit, so a slow Redis
 * delays no other host.
 * @param lease the row of the host, if a statement has returned it during this sync
 */
async function readAnswer(
  ctx: ControlContext,
  hostId: string,
  body: Sync,
  { full, isWoken = false, lease }: AnswerOptions & { lease?: HostLeaseRow | undefined },
  signal: AbortSignal,
): Promise<SyncResult> {
  let streams: Promise<SyncResult["streams"]> | undefined;
  let sessions: Promise<SessionRequest[]> | undefined;
  const limit = full ? ctx.fullAnswerLimit : ctx.hostAnswerLimit;
  const answer = await limit(async () => {
    if (signal.aborted) throw disconnected();
    streams = ctx.streams.takeRequests(hostId);
    sessions = ctx.sessions.takeRequests(hostId);
    const row = lease ?? (await findHostLease(ctx.db, { hostId }));
    if (!row) throw await createHostRefusal(ctx, { hostId });
    return buildAnswer(ctx, row, body, { full, isWoken });
  });
  const requested = await sessions;
  return {
    ...answer,
    streams: (await streams) ?? [],
    ...(requested && requested.length > 0 ? { sessions: requested } : {}),
  };
}

async function buildAnswer(
  ctx: ControlContext,
  { hostId, generation, state, databaseEpoch, databaseTimeMs, isRotationRequested }: HostLeaseRow,
  body: Sync,
  { full, isWoken = false }: AnswerOptions,
): Promise<SyncResult> {
  const hasNews = full || generation > body.acceptedGeneration;
  const after = full ? -1 : body.acceptedGeneration;
  const [rows, purgeVolumes, prefetch, setsToRemove, registryCredentials] = await Promise.all([
    hasNews ? listDesiredSets(ctx.db, hostId, after, DESIRED_SETS_MAX) : [],
    hasNews ? listPurges(ctx.db, hostId, PURGES_PER_SYNC_MAX) : [],
    hasNews ? findPrefetches(ctx.db, hostId) : undefined,
    body.unlistedSets ? resolveUnlistedSets(ctx, hostId, body.unlistedSets) : [],
    hasNews || isWoken ? listHostCredentials(ctx, hostId) : undefined,
  ]);
  assert(rows.length < DESIRED_SETS_MAX, "an answer contains all sets of a host");
  const sets: DesiredSet[] = [];
  const reportAgain: string[] = [];
  for (const { isUnknown, ...set } of rows) {
    sets.push(set);
    if (full && isUnknown && state !== "unhealthy") reportAgain.push(set.setId);
  }
  return {
    ...(full ? { setsToRemove } : {}),
    ...(registryCredentials ? { registryCredentials } : {}),
    ...(prefetch ? { prefetch } : {}),
    ...(isRotationRequested ? { rotateCredential: true } : {}),
    // Older than the sets: the next sync repeats a set that changed in between, so none is missed.
    hostGeneration: generation,
    full,
    sets,
    streams: [],
    // Each full answer repeats these, until the agent has reported them.
    reportAgain,
    purgeVolumes,
    leaseSeconds: LEASE_SECONDS,
    databaseEpoch,
    serverTime: new Date().toISOString(),
    databaseTime: new Date(databaseTimeMs).toISOString(),
  };
}
