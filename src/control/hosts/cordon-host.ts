import { notFound } from "../../contracts/common/app-error.ts";
import type { EventKind } from "../../contracts/api/events.ts";
import type { Host } from "../../contracts/api/hosts.ts";
import type { Queryable } from "../../db/postgres/open-postgres.ts";
import { insertEvents } from "../../db/queries/events/write-events.ts";
import { updateHostAdmission, updateHostLabels } from "../../db/queries/hosts/lost-hosts.ts";
import { forgetHeldDrains } from "../../db/queries/relocation/moves.ts";
import { insertOutbox } from "../../db/queries/runtime/outbox.ts";
import { withTx } from "../../db/transaction.ts";
import type { ServiceContext } from "../runtime/context.ts";
import { getHost } from "./get-host.ts";
import { planWaiting } from "../placement/retry-pending.ts";
import { type Aftermath, carryOut, nothingLeft } from "../replicas/reconcile-replicas.ts";
import { assertGeneration } from "../runtime/preconditions.ts";

/** The host takes no new sets; those that it has stay. Repeating it changes nothing. Throws not-found. */
export function cordonHost(ctx: ServiceContext, hostId: string): Promise<Host> {
  return changeAdmission(
    ctx,
    hostId,
    { cordoned: true, draining: false },
    "host-cordoned",
    "takes no new sets",
  );
}

/** The host takes sets again; ends a drain. Throws not-found. */
export function uncordonHost(ctx: ServiceContext, hostId: string): Promise<Host> {
  return changeAdmission(
    ctx,
    hostId,
    { cordoned: false, draining: false },
    "host-uncordoned",
    "takes sets again",
  );
}

/**
 * The host takes no new sets and its sets are moved away (see move-sets.ts) by a job that is rung here: its many locks are no part of
 * this transaction, nor of the one that an Idempotency-Key puts around it. Throws not-found.
 */
export function drainHost(ctx: ServiceContext, hostId: string): Promise<Host> {
  return changeAdmission(
    ctx,
    hostId,
    { cordoned: true, draining: true },
    "host-draining",
    "is being emptied",
  );
}

async function changeAdmission(
  ctx: ServiceContext,
  hostId: string,
  admission: { cordoned: boolean; draining: boolean },
  kind: EventKind,
  text: string,
): Promise<Host> {
  const aftermath = await withTx(ctx.db, async (tx): Promise<Aftermath> => {
    const host = await updateHostAdmission(tx, hostId, admission);
    if (!host) throw notFound("host");
    if (host.changed) await insertEvents(tx, [{ kind, text: `${host.name} ${text}`, hostId }]);
    if (!admission.draining) await forgetHeldDrains(tx, hostId);
    if (admission.draining) return drainBy(tx, hostId, kind);
    return admission.cordoned ? nothingLeft() : planWaiting(tx, hostId, kind);
  });
  await carryOut(ctx, aftermath);
  return getHost(ctx, hostId);
}

async function drainBy(tx: Queryable, hostId: string, cause: string): Promise<Aftermath> {
  const ring = {
    name: "move-sets" as const,
    jobId: `drain:${hostId}:at${Date.now()}`,
    payload: { cause },
  };
  return { rings: [ring], outboxIds: await insertOutbox(tx, [ring]), signals: [] };
}

/**
 * Replaces a host's labels or taints. They count for sets placed from now on. Throws not-found, and generation-mismatch when
 * the host has changed since the caller read `generation` (undefined: it does not care).
 */
export async function patchHost(
  ctx: ServiceContext,
  hostId: string,
  generation: number | undefined,
  change: {
    labels?: Record<string, string> | undefined;
    taints?: { key: string; value: string }[] | undefined;
  },
): Promise<Host> {
  const aftermath = await withTx(ctx.db, async (tx) =>
    (await updateHostLabels(tx, hostId, generation, change))
      ? planWaiting(tx, hostId, "host-changed")
      : undefined,
  );
  const host = await getHost(ctx, hostId);
  if (!aftermath) {
    assertGeneration(host, generation, "host");
    throw notFound("host");
  }
  await carryOut(ctx, aftermath);
  return host;
}
