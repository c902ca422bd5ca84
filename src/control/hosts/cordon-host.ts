import type { EmittedEvent } from "../../contracts/api/event-texts.ts";
import { notFound } from "../../contracts/common/app-error.ts";
import type { DrainHost, Host } from "../../contracts/api/hosts.ts";
import { updateHostAdmission, updateHostLabels } from "../../db/queries/hosts/schedule-hosts.ts";
import { deleteDrain, type DrainOptions, upsertDrain } from "../../db/queries/operations/drains.ts";
import { cancelDrainMoves } from "../../db/queries/operations/operations.ts";
import type { ControlContext, UnitOfWork } from "../runtime/context.ts";
import { unitOfWork } from "../runtime/unit-of-work.ts";
import { getHost } from "./get-host.ts";
import { retryPending } from "../placement/retry-pending.ts";
import { assertGeneration } from "../runtime/preconditions.ts";

/** The relocation sweep ends the others. */
const DRAIN_MOVES_MAX = 1_000;

/** Cordons a host: it accepts no new sets, and its sets stay. Idempotent. Throws not-found. */
export function cordonHost(ctx: ControlContext, hostId: string): Promise<Host> {
  return changeAdmission(ctx, hostId, { cordoned: true, draining: false }, "host-cordoned");
}

/** Uncordons a host, and ends its drain. Throws not-found. */
export function uncordonHost(ctx: ControlContext, hostId: string): Promise<Host> {
  return changeAdmission(ctx, hostId, { cordoned: false, draining: false }, "host-uncordoned");
}

/**
 * Drains a host: it accepts no new sets, and the mover moves its sets (see
 * docs/internals/operations.md). A job starts the mover, as its locks of many services do not
 * belong in this transaction. A repeated drain replaces the options. Throws not-found.
 */
export function drainHost(
  ctx: ControlContext,
  hostId: string,
  { deadlineSeconds, force = false, discardVolumes = false }: DrainHost = {},
): Promise<Host> {
  return changeAdmission(ctx, hostId, { cordoned: true, draining: true }, "host-draining", {
    deadlineSeconds,
    isForced: force,
    discardsVolumes: discardVolumes,
  });
}

async function changeAdmission(
  ctx: ControlContext,
  hostId: string,
  admission: { cordoned: boolean; draining: boolean },
  kind: "host-cordoned" | "host-uncordoned" | "host-draining",
  drain?: DrainOptions,
): Promise<Host> {
  await unitOfWork(ctx, async (tx) => {
    const host = await updateHostAdmission(tx, hostId, admission);
    if (!host) throw notFound("host");
    // The compiler cannot relate the kind to its facts, which are the same for all three kinds.
    const data = { host: host.name, cause: "request" };
    if (host.changed) tx.emit({ kind, data, hostId } as EmittedEvent);
    if (drain) {
      await upsertDrain(tx, hostId, drain);
      return enqueueDrain(tx, hostId, kind);
    }
    await deleteDrain(tx, hostId);
    await cancelDrainMoves(tx, DRAIN_MOVES_MAX);
    if (!admission.cordoned) await retryPending(tx, hostId, kind);
  });
  return getHost(ctx, hostId);
}

function enqueueDrain(tx: UnitOfWork, hostId: string, cause: string): void {
  tx.enqueue({ name: "move-sets", jobId: `drain:${hostId}:at${Date.now()}`, payload: { cause } });
}

/**
 * Replaces the labels or taints of a host, for future placements. Throws not-found, and
 * generation-mismatch if the host has a different generation than `generation`. If it is
 * undefined, every generation matches.
 */
export async function patchHost(
  ctx: ControlContext,
  hostId: string,
  generation: number | undefined,
  change: {
    labels?: Record<string, string> | undefined;
    taints?: { key: string; value: string }[] | undefined;
  },
): Promise<Host> {
  const hasChanged = await unitOfWork(ctx, async (tx) => {
    if (!(await updateHostLabels(tx, hostId, generation, change))) return false;
    await retryPending(tx, hostId, "host-changed");
    return true;
  });
  const host = await getHost(ctx, hostId);
  if (!hasChanged) {
    assertGeneration(host, generation, "host");
    throw notFound("host");
  }
  return host;
}
