import { createHash } from "node:crypto";
import { AppError, notFound } from "../../contracts/common/app-error.ts";
import type { Alert, Delivery } from "../../contracts/api/alert-deliveries.ts";
import { REPLICAS_MAX } from "../../contracts/common/limits.ts";
import type { Queryable } from "../../db/postgres/open-postgres.ts";
import {
  type ChangedDemand,
  deleteSurplusReleased,
  insertDemands,
  type KnownEpisodeRow,
  listKnownEpisodes,
  reopenDemands,
  resolveDemands,
  updateLastReceived,
} from "../../db/queries/autoscaling/demands.ts";
import {
  claimTruncationReport,
  findHook,
  type HookRow,
} from "../../db/queries/autoscaling/hooks.ts";
import { markAutoscaleDue } from "../../db/queries/autoscaling/states.ts";
import { lockServiceById } from "../../db/queries/services/write-services.ts";
import { splitIntoChunks } from "../../lib/split-into-chunks.ts";
import { newId } from "../../lib/ids.ts";
import {
  type DeliveredAlert,
  foldAlerts,
  type FoldOutcome,
  type NewEpisode,
} from "../../scheduler/autoscaling/fold-alerts.ts";
import type { ControlContext, UnitOfWork } from "../runtime/context.ts";
import { unitOfWork } from "../runtime/unit-of-work.ts";
import { decideServiceReplicas } from "../replicas/decide-service-replicas.ts";
import { demandEvents } from "./demand-events.ts";
import { enqueueAutoscale } from "./enqueue-autoscale.ts";

/** Berth holds at most this many demands for a service, and ignores further alerts. */
export const DEMANDS_HELD_MAX = 10_000;
/**
 * Released demands that the database keeps of a hook; older ones no longer protect against late
 * copies.
 */
export const RELEASED_PER_HOOK_MAX = 5_000;
/** Ends without a beginning that one delivery may store. */
const UNKNOWN_ENDS_MAX = 1_000;
/** Alerts that one statement handles; a delivery may have any number of them. */
const ALERTS_PER_STATEMENT_MAX = 1_000;
/** Labels that the database stores of an alert, for users; rules see all of them whole. */
const LABELS_STORED_MAX = 64;
const LABEL_CHARS_STORED_MAX = 256;
/** Longer names of rules and identities are stored as a hash. */
const NAME_CHARS_MAX = 200;
const TRUNCATION_REPORT_SECONDS = 600;
const ERRORS_RETURNED_MAX = 10;
/** The times that ISO 8601 writes with a year of four digits. */
const EPOCH_MS_MIN = -62_167_219_200_000;
const EPOCH_MS_MAX = 253_402_300_799_999;

export interface HookReceipt {
  accepted: number;
  ignored: number;
  errors?: Delivery["errors"];
}

/**
 * Stores a delivery in one transaction under the service's row lock. It inserts new demands,
 * resolves those that ended, marks the service due and enqueues one autoscale job. A storm of
 * thousands of alerts is one transaction too, in bounded statements. A delivery without news
 * changes only the time at which Berth last received its alerts (I8). Alerts that the sender left
 * out keep their state (I12).
 *
 * Throws invalid-request if Berth can read none of the alerts, and not-found if the hook or its
 * service is deleted.
 */
export async function receiveAlerts(
  ctx: ControlContext,
  hookId: string,
  delivery: Delivery,
): Promise<HookReceipt> {
  const { alerts, errors } = delivery;
  if (alerts.length === 0 && errors.length > 0) throw unreadable(errors);
  const delivered = alerts.map(toDelivered);
  const [hook, known] = await Promise.all([
    findHook(ctx.db, hookId),
    readKnownEpisodes(ctx.db, hookId, delivered),
  ]);
  if (!hook) throw notFound("hook");
  if (delivery.truncatedAlerts > 0) await reportTruncation(ctx, hook, delivery.truncatedAlerts);
  // Most deliveries repeat what the database holds: they need no lock.
  const first = fold(hook, known, delivered, { baseReplicas: 0, heldTotal: 0 });
  for (const chunk of splitIntoChunks(first.repeatedIds, ALERTS_PER_STATEMENT_MAX)) {
    await updateLastReceived(ctx.db, chunk);
  }
  const isNews = first.newEpisodes.length + first.resolvedIds.length + first.reopenedIds.length > 0;
  if (!isNews) return toReceipt(first, errors);
  const outcome = await unitOfWork(ctx, (tx) => store(ctx, tx, hook.serviceId, hookId, delivered));
  return toReceipt(outcome, errors);
}

/** Reports alerts that the sender omitted, at most once in ten minutes for each hook. */
async function reportTruncation(
  ctx: ControlContext,
  hook: HookRow,
  truncatedAlerts: number,
): Promise<void> {
  await unitOfWork(ctx, async (tx) => {
    if (!(await claimTruncationReport(tx, hook.id, TRUNCATION_REPORT_SECONDS))) return;
    tx.emit({
      kind: "alerts-truncated",
      data: { hook: hook.name, truncatedAlerts },
      tenantId: hook.tenantId,
      serviceId: hook.serviceId,
    });
  });
}

interface KnownEpisodes {
  nowMs: number;
  episodes: KnownEpisodeRow[];
}

/** Several chunks may name the same key: its episodes count once. */
async function readKnownEpisodes(
  q: Queryable,
  hookId: string,
  delivered: readonly DeliveredAlert[],
): Promise<KnownEpisodes> {
  let nowMs = 0;
  const episodes = new Map<string, KnownEpisodeRow>();
  for (const chunk of splitIntoChunks(delivered, ALERTS_PER_STATEMENT_MAX)) {
    const known = await listKnownEpisodes(q, hookId, chunk);
    nowMs = known.nowMs;
    for (const episode of known.episodes) episodes.set(episode.id, episode);
  }
  return { nowMs, episodes: [...episodes.values()] };
}

function fold(
  hook: HookRow,
  known: KnownEpisodes,
  delivered: readonly DeliveredAlert[],
  now: { baseReplicas: number; heldTotal: number },
): FoldOutcome {
  const input = {
    rules: hook.rules,
    known: known.episodes,
    baseReplicas: now.baseReplicas,
    nowMs: known.nowMs,
    replicasMax: REPLICAS_MAX,
    newEpisodesMax: Math.max(0, DEMANDS_HELD_MAX - now.heldTotal),
    unknownEndsMax: UNKNOWN_ENDS_MAX,
  };
  return foldAlerts(input, delivered);
}

async function store(
  ctx: ControlContext,
  tx: UnitOfWork,
  serviceId: string,
  hookId: string,
  delivered: readonly DeliveredAlert[],
): Promise<FoldOutcome> {
  const service = await lockServiceById(tx, serviceId);
  if (!service) throw notFound("hook");
  // Read again under the lock, which each other delivery and the deletion of the hook or the
  // service takes first.
  const [hook, known, { base, heldTotal }] = await Promise.all([
    findHook(tx, hookId),
    readKnownEpisodes(tx, hookId, delivered),
    decideServiceReplicas(tx, service),
  ]);
  if (!hook) throw notFound("hook");
  const outcome = fold(hook, known, delivered, { baseReplicas: base, heldTotal });
  if (heldTotal >= DEMANDS_HELD_MAX) {
    ctx.log.warn({ hookId, heldTotal }, "service holds the maximum number of demands");
  }
  await storeOutcome(tx, hook, outcome);
  return outcome;
}

async function storeOutcome(tx: UnitOfWork, hook: HookRow, outcome: FoldOutcome): Promise<void> {
  const inserted = outcome.newEpisodes.map(toStoredEpisode);
  const chunks = splitIntoChunks(inserted, ALERTS_PER_STATEMENT_MAX);
  const [resolved, reopened] = await Promise.all([
    resolveDemands(tx, outcome.resolvedIds),
    reopenDemands(tx, outcome.reopenedIds),
    ...chunks.map((chunk) => insertDemands(tx, hook, chunk)),
  ]);
  if (inserted.length > 0) {
    await deleteSurplusReleased(tx, hook.id, RELEASED_PER_HOOK_MAX, 2 * UNKNOWN_ENDS_MAX);
  }
  const begun = inserted.filter((episode) => episode.state !== "released");
  const raised = [...begun.map((episode) => toChanged(episode, hook)), ...reopened];
  const changedId = raised[0]?.id ?? resolved[0]?.id;
  if (changedId === undefined) return; // nothing changed that a decision depends on
  const to = raised.length > 0 ? "firing" : "resolved";
  tx.emit(...demandEvents("demand-raised", raised), ...demandEvents("demand-resolved", resolved));
  await markAutoscaleDue(tx, hook.serviceId);
  enqueueAutoscale(tx, [{ serviceId: hook.serviceId, demandId: changedId, to }]);
}

function toReceipt({ accepted, ignored }: FoldOutcome, errors: Delivery["errors"]): HookReceipt {
  if (errors.length === 0) return { accepted, ignored };
  const returned = errors.slice(0, ERRORS_RETURNED_MAX);
  return { accepted, ignored: ignored + errors.length, errors: returned };
}

function unreadable(errors: Delivery["errors"]): AppError {
  return new AppError("invalid-request", {
    detail: `The delivery has no valid alert: \`${errors[0]?.pointer}\` ${errors[0]?.detail}.`,
    errors: errors.slice(0, ERRORS_RETURNED_MAX),
  });
}

function toStoredEpisode(episode: NewEpisode) {
  return {
    ...episode,
    id: newId("dmd"),
    labels: toStoredLabels(episode.labels),
    rule: toStoredName(episode.rule),
    identity: toStoredName(episode.identity),
  };
}

function toStoredName(name: string): string {
  return name.length > NAME_CHARS_MAX
    ? createHash("sha256").update(name).digest("hex")
    : toStorable(name);
}

function toChanged(episode: NewEpisode & { id: string }, hook: HookRow): ChangedDemand {
  const { id, key, labels, wantedReplicas } = episode;
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
    name: alert.name,
    hasUniqueKey: alert.hasUniqueKey ?? false,
  };
}

/**
 * Whole milliseconds: not all formats on the way preserve finer parts, so these are not part of a
 * start's identity.
 */
function toEpochMs(isoTime: string | undefined): number | undefined {
  if (isoTime === undefined) return undefined;
  const ms = Date.parse(isoTime);
  if (Number.isNaN(ms)) {
    const detail = "`startsAt` must be an ISO 8601 timestamp.";
    throw new AppError("invalid-request", {
      detail,
      errors: [{ pointer: "/startsAt", detail: "must be an ISO 8601 timestamp" }],
    });
  }
  return Math.min(Math.max(ms, EPOCH_MS_MIN), EPOCH_MS_MAX);
}

function toStoredLabels(labels: Readonly<Record<string, string>>): Record<string, string> {
  const stored = Object.entries(labels).slice(0, LABELS_STORED_MAX);
  return Object.fromEntries(
    stored.map(([name, value]) => [cut(toStorable(name)), cut(toStorable(value))]),
  );
}

function cut(text: string): string {
  return text.length > LABEL_CHARS_STORED_MAX
    ? toStorable(text.slice(0, LABEL_CHARS_STORED_MAX))
    : text;
}

/** Replaces NUL and lone surrogates, which Postgres cannot store. */
function toStorable(text: string): string {
  return text.replaceAll(/[\0\p{Surrogate}]/gu, "\u{FFFD}");
}
