import { AppError, notFound } from "../contracts/app-error.ts";
import type { Alert } from "../contracts/elasticity.ts";
import { REPLICAS_MAX } from "../contracts/services.ts";
import type { Queryable } from "../db/client.ts";
import {
  type ChangedDemand,
  insertDemands,
  listHeldDemands,
  listKnownRuns,
  resolveDemands,
} from "../db/queries/demands.ts";
import { insertEvents } from "../db/queries/events.ts";
import { findHook, type HookRow } from "../db/queries/hooks.ts";
import { lockServiceById, type ServiceRow } from "../db/queries/service-writes.ts";
import { withTx } from "../db/tx.ts";
import { newId } from "../lib/ids.ts";
import { type DeliveredAlert, foldAlerts, type NewRun } from "../scheduler/fold-alerts.ts";
import type { ServiceContext } from "./context.ts";
import { decideServiceReplicas } from "./decide-service-replicas.ts";
import { demandEvents } from "./demand-events.ts";
import { type Aftermath, carryOut } from "./reconcile-service.ts";
import { ringAutoscale } from "./ring-autoscale.ts";

/** A service is held by at most so many demands at once; a sender that invents alerts beyond it is ignored. */
export const DEMANDS_HELD_MAX = 10_000;
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
 * with what they want computed once, ends those that are over, and leaves one autoscale job. A delivery that says
 * nothing new writes nothing (I8). Throws not-found for a hook that is deleted or whose service is.
 */
export async function receiveAlerts(
  ctx: ServiceContext,
  hookId: string,
  alerts: readonly Alert[],
): Promise<HookReceipt> {
  const delivered = alerts.map(toDelivered);
  const { receipt, aftermath } = await withTx(ctx.db, async (tx) => {
    const { hook, service } = await lockHookAndService(tx, hookId);
    return record(ctx, tx, hook, service, delivered);
  });
  if (aftermath) await carryOut(ctx, aftermath);
  return receipt;
}

/** The service is locked before the hook is read for good: deleting either takes the same lock first. */
async function lockHookAndService(
  tx: Queryable,
  hookId: string,
): Promise<{ hook: HookRow; service: ServiceRow }> {
  const found = await findHook(tx, hookId);
  const service = found && (await lockServiceById(tx, found.serviceId));
  const hook = service && (await findHook(tx, hookId));
  if (!hook || service.deleting) throw notFound("hook");
  return { hook, service };
}

async function record(
  ctx: ServiceContext,
  tx: Queryable,
  hook: HookRow,
  service: ServiceRow,
  delivered: readonly DeliveredAlert[],
): Promise<{ receipt: HookReceipt; aftermath: Aftermath | undefined }> {
  const known = await listKnownRuns(tx, hook.id, delivered);
  const held = await listHeldDemands(tx, service.id, 1);
  // Not desired_replicas as it is: what earlier alerts want counts, though the job for them may not have run yet.
  const { desired } = await decideServiceReplicas(tx, service);
  const fold = foldAlerts(
    {
      rules: hook.rules,
      known: known.runs,
      baseReplicas: desired,
      nowMs: known.nowMs,
      replicasMax: REPLICAS_MAX,
      newRunsMax: Math.max(0, DEMANDS_HELD_MAX - held.total),
    },
    delivered,
  );
  const receipt = { accepted: fold.accepted, ignored: fold.ignored };
  if (held.total >= DEMANDS_HELD_MAX) {
    ctx.log.warn({ hookId: hook.id, held: held.total }, "hook holds as many demands as it may");
  }
  const inserted = fold.newRuns.map((run) => ({
    ...run,
    id: newId("dmd"),
    labels: toKept(run.labels),
  }));
  await insertDemands(tx, hook, inserted);
  const resolved = await resolveDemands(tx, fold.resolvedIds);
  const raised = inserted.filter((run) => run.state !== "released");
  const changedId = raised[0]?.id ?? resolved[0]?.id;
  if (changedId === undefined) return { receipt, aftermath: undefined };
  await insertEvents(tx, [
    ...demandEvents(
      "demand-raised",
      raised.map((run) => toChanged(run, hook)),
    ),
    ...demandEvents("demand-resolved", resolved),
  ]);
  const to = raised.length > 0 ? "firing" : "resolved";
  const change = { serviceId: service.id, demandId: changedId, to } as const;
  return { receipt, aftermath: await ringAutoscale(tx, [change]) };
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
