import { AppError, notFound } from "../../contracts/common/app-error.ts";
import type { Alert } from "../../contracts/api/autoscaling.ts";
import { REPLICAS_MAX } from "../../contracts/api/services.ts";
import type { Queryable } from "../../db/postgres/open-postgres.ts";
import {
  type ChangedDemand,
  insertDemands,
  type KnownRunRow,
  listKnownRuns,
  reopenDemands,
  resolveDemands,
} from "../../db/queries/autoscaling/demands.ts";
import { findHook, type HookRow } from "../../db/queries/autoscaling/hooks.ts";
import { lockServiceById } from "../../db/queries/services/write-services.ts";
import { chunksOf } from "../../lib/chunk.ts";
import { newId } from "../../lib/ids.ts";
import {
  type DeliveredAlert,
  foldAlerts,
  type FoldOutcome,
  type NewRun,
} from "../../scheduler/autoscaling/fold-alerts.ts";
import type { ControlContext, UnitOfWork } from "../runtime/context.ts";
import { unitOfWork } from "../runtime/unit-of-work.ts";
import { decideServiceReplicas } from "../replicas/decide-replicas.ts";
import { demandEvents } from "./demand-events.ts";
import { enqueueAutoscale } from "./enqueue-autoscale.ts";

/** A service is held by at most so many demands at once; a sender that invents alerts beyond it is ignored. */
export const DEMANDS_HELD_MAX = 10_000;
/** Alerts that one statement is about; a delivery may have any number of them. */
const ALERTS_PER_STATEMENT_MAX = 1_000;
/** What is kept of an alert's labels, for people; rules have seen them whole. */
const LABELS_KEPT_MAX = 64;
const LABEL_CHARS_KEPT_MAX = 256;
/** Times that ISO 8601 writes with a year of four digits. */
const EPOCH_MS_MIN = -62_167_219_200_000;
const EPOCH_MS_MAX = 253_402_300_799_999;

export interface HookReceipt {
  accepted: number;
  ignored: number;
}

/**
 * Takes in what a sender delivered: one transaction under the service's row lock that puts new alerts on record as demands,
 * with what they want computed once, ends those that are over, and leaves one autoscale job. A storm of thousands
 * is one transaction all the same, so that its steps are taken over one base; its statements are bounded. A delivery that
 * says nothing new is answered from what is on record and writes nothing (I8). Throws not-found for a hook that is deleted or
 * whose service is.
 */
export async function receiveAlerts(
  ctx: ControlContext,
  hookId: string,
  alerts: readonly Alert[],
): Promise<HookReceipt> {
  const delivered = alerts.map(toDelivered);
  const [hook, known] = await Promise.all([
    findHook(ctx.db, hookId),
    readKnownRuns(ctx.db, hookId, delivered),
  ]);
  if (!hook) throw notFound("hook");
  // Most deliveries are repetitions. What changes nothing by what is on record now is answered without a lock.
  const first = fold(hook, known, delivered, { baseReplicas: 0, heldTotal: 0 });
  const isNews = first.newRuns.length + first.resolvedIds.length + first.reopenedIds.length > 0;
  if (!isNews) return toReceipt(first);
  return unitOfWork(ctx, (tx) => record(ctx, tx, hook.serviceId, hookId, delivered));
}

interface KnownRuns {
  nowMs: number;
  runs: KnownRunRow[];
}

/** A key may be named by several chunks: its runs count once. */
async function readKnownRuns(
  q: Queryable,
  hookId: string,
  delivered: readonly DeliveredAlert[],
): Promise<KnownRuns> {
  let nowMs = 0;
  const runs = new Map<string, KnownRunRow>();
  for (const chunk of chunksOf(delivered, ALERTS_PER_STATEMENT_MAX)) {
    const known = await listKnownRuns(q, hookId, chunk);
    nowMs = known.nowMs;
    for (const run of known.runs) runs.set(run.id, run);
  }
  return { nowMs, runs: [...runs.values()] };
}

function fold(
  hook: HookRow,
  known: KnownRuns,
  delivered: readonly DeliveredAlert[],
  now: { baseReplicas: number; heldTotal: number },
): FoldOutcome {
  const input = {
    rules: hook.rules,
    known: known.runs,
    baseReplicas: now.baseReplicas,
    nowMs: known.nowMs,
    replicasMax: REPLICAS_MAX,
    newRunsMax: Math.max(0, DEMANDS_HELD_MAX - now.heldTotal),
  };
  return foldAlerts(input, delivered);
}

async function record(
  ctx: ControlContext,
  tx: UnitOfWork,
  serviceId: string,
  hookId: string,
  delivered: readonly DeliveredAlert[],
): Promise<HookReceipt> {
  const service = await lockServiceById(tx, serviceId);
  if (!service) throw notFound("hook");
  // Read again under the lock: deleting the hook or the service takes it first, and so does every other delivery.
  const [hook, known, { desired, heldTotal }] = await Promise.all([
    findHook(tx, hookId),
    readKnownRuns(tx, hookId, delivered),
    // Not desired_replicas as it is: what earlier alerts want counts, though the job for them may not have run yet.
    decideServiceReplicas(tx, service),
  ]);
  if (!hook) throw notFound("hook");
  const outcome = fold(hook, known, delivered, { baseReplicas: desired, heldTotal });
  if (heldTotal >= DEMANDS_HELD_MAX) {
    ctx.log.warn({ hookId, heldTotal }, "service is held by as many demands as it may be");
  }
  await store(tx, hook, outcome);
  return toReceipt(outcome);
}

async function store(tx: UnitOfWork, hook: HookRow, outcome: FoldOutcome): Promise<void> {
  const inserted = outcome.newRuns.map((run) => ({
    ...run,
    id: newId("dmd"),
    labels: toKept(run.labels),
  }));
  const chunks = chunksOf(inserted, ALERTS_PER_STATEMENT_MAX);
  const [resolved, reopened] = await Promise.all([
    resolveDemands(tx, outcome.resolvedIds),
    reopenDemands(tx, outcome.reopenedIds),
    ...chunks.map((chunk) => insertDemands(tx, hook, chunk)),
  ]);
  const begun = inserted.filter((run) => run.state !== "released");
  const raised = [...begun.map((run) => toChanged(run, hook)), ...reopened];
  const changedId = raised[0]?.id ?? resolved[0]?.id;
  if (changedId === undefined) return; // nothing that a decision depends on has changed
  const to = raised.length > 0 ? "firing" : "resolved";
  tx.emit(...demandEvents("demand-raised", raised), ...demandEvents("demand-resolved", resolved));
  enqueueAutoscale(tx, [{ serviceId: hook.serviceId, demandId: changedId, to }]);
}

function toReceipt({ accepted, ignored }: FoldOutcome): HookReceipt {
  return { accepted, ignored };
}

function toChanged(run: NewRun & { id: string }, hook: HookRow): ChangedDemand {
  const { id, key, labels, wantedReplicas } = run;
  const { tenantId, serviceId } = hook;
  return { id, tenantId, serviceId, hook: hook.name, key, labels, wantedReplicas };
}

function toDelivered(alert: Alert): DeliveredAlert {
  return {
    key: toStorable(alert.key),
    status: alert.status,
    startedAtMs: toEpochMs(alert.startsAt),
    endedAtMs: toEpochMs(alert.endsAt),
    labels: alert.labels,
  };
}

/** Whole milliseconds: finer parts would not survive all the formats on the way, and are no part of a start's identity. */
function toEpochMs(isoTime: string | undefined): number | undefined {
  if (isoTime === undefined) return undefined;
  const ms = Date.parse(isoTime);
  if (Number.isNaN(ms)) {
    throw new AppError("invalid-request", { detail: "An alert's time is not a time." });
  }
  return Math.min(Math.max(ms, EPOCH_MS_MIN), EPOCH_MS_MAX);
}

function toKept(labels: Readonly<Record<string, string>>): Record<string, string> {
  const kept = Object.entries(labels).slice(0, LABELS_KEPT_MAX);
  return Object.fromEntries(
    kept.map(([name, value]) => [cut(toStorable(name)), cut(toStorable(value))]),
  );
}

function cut(text: string): string {
  return text.length > LABEL_CHARS_KEPT_MAX
    ? toStorable(text.slice(0, LABEL_CHARS_KEPT_MAX))
    : text;
}

/** Without NUL and lone surrogates, which Postgres cannot keep. */
function toStorable(text: string): string {
  return text.replaceAll(/[\0\p{Surrogate}]/gu, "\u{FFFD}");
}
