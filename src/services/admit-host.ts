import { notFound } from "../contracts/app-error.ts";
import type { EventKind } from "../contracts/events.ts";
import type { JobRing } from "../contracts/jobs.ts";
import type { Host } from "../contracts/hosts.ts";
import type { Queryable } from "../db/client.ts";
import { insertEvents } from "../db/queries/events.ts";
import { updateHostAdmission, updateHostLabels } from "../db/queries/host-lifecycle.ts";
import { forgetHeldDrains } from "../db/queries/moves.ts";
import { insertOutbox } from "../db/queries/outbox.ts";
import { retryPendingSets } from "../db/queries/set-writes.ts";
import { withTx } from "../db/tx.ts";
import type { ServiceContext } from "./context.ts";
import { getHost } from "./get-host.ts";
import { type Aftermath, carryOut } from "./reconcile-service.ts";
import { assertGeneration } from "./generation.ts";

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
    const ring = await ringFor(tx, hostId, admission, kind);
    if (!ring) return { rings: [], outboxIds: [], signals: [] };
    return { rings: [ring], outboxIds: await insertOutbox(tx, [ring]), signals: [] };
  });
  await carryOut(ctx, aftermath);
  return getHost(ctx, hostId);
}

/** What a change of admission leaves to do: there is a host to empty, or room for what waits. */
async function ringFor(
  tx: Queryable,
  hostId: string,
  { cordoned, draining }: { cordoned: boolean; draining: boolean },
  cause: string,
): Promise<JobRing | undefined> {
  const at = Date.now();
  if (draining) return { name: "move-sets", jobId: `drain:${hostId}:at${at}`, payload: { cause } };
  if (cordoned || !(await retryPendingSets(tx))) return undefined;
  return { name: "place-sets", jobId: `place:${hostId}:at${at}`, payload: { cause } };
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
  if (!(await updateHostLabels(ctx.db, hostId, generation, change))) {
    assertGeneration(await getHost(ctx, hostId), generation, "host");
    throw notFound("host");
  }
  if (await retryPendingSets(ctx.db)) {
    const ring = {
      name: "place-sets" as const,
      jobId: `place:${hostId}:at${Date.now()}`,
      payload: { cause: "host-changed" },
    };
    await ctx.doorbell.ring([ring], []);
  }
  return getHost(ctx, hostId);
}
