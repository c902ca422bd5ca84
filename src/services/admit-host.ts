import { notFound } from "../contracts/app-error.ts";
import type { EventKind } from "../contracts/events.ts";
import type { Host } from "../contracts/hosts.ts";
import { insertEvents } from "../db/queries/events.ts";
import { updateHostAdmission, updateHostLabels } from "../db/queries/host-lifecycle.ts";
import { insertOutbox } from "../db/queries/outbox.ts";
import { retryPendingSets } from "../db/queries/set-writes.ts";
import { withTx } from "../db/tx.ts";
import type { ServiceContext } from "./context.ts";
import { getHost } from "./get-host.ts";
import { type Aftermath, carryOut } from "./reconcile-service.ts";
import { drainHosts } from "./drain-hosts.ts";

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

/** The host takes no new sets and its sets are moved away, of each service one at a time. Throws not-found. */
export async function drainHost(ctx: ServiceContext, hostId: string): Promise<Host> {
  await changeAdmission(
    ctx,
    hostId,
    { cordoned: true, draining: true },
    "host-draining",
    "is being emptied",
  );
  await drainHosts(ctx);
  return getHost(ctx, hostId);
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
    if (admission.cordoned || !(await retryPendingSets(tx)))
      return { rings: [], outboxIds: [], signals: [] };
    const ring = {
      name: "place-sets" as const,
      jobId: `place:${hostId}:at${Date.now()}`,
      payload: { cause: kind },
    };
    return { rings: [ring], outboxIds: await insertOutbox(tx, [ring]), signals: [] };
  });
  await carryOut(ctx, aftermath);
  return getHost(ctx, hostId);
}

/** Replaces a host's labels or taints. They count for sets placed from now on. Throws not-found. */
export async function patchHost(
  ctx: ServiceContext,
  hostId: string,
  change: {
    labels?: Record<string, string> | undefined;
    taints?: { key: string; value: string }[] | undefined;
  },
): Promise<Host> {
  const found = await updateHostLabels(ctx.db, hostId, change);
  if (!found) throw notFound("host");
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
