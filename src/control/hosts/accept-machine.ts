import type { Host } from "../../contracts/api/hosts.ts";
import { AppError, notFound } from "../../contracts/common/app-error.ts";
import { lockAgentRecord, updateAgentRecord } from "../../db/queries/hosts/agent-records.ts";
import type { ControlContext } from "../runtime/context.ts";
import { unitOfWork } from "../runtime/unit-of-work.ts";
import { getHost } from "./get-host.ts";

/**
 * Releases a host from its machine: the machine whose agent syncs next becomes that of the host.
 * For a machine whose id has changed. Without effect if the host has no machine yet.
 *
 * The lease must have expired. Otherwise the recorded machine still runs the sets, and would often
 * sync first. Throws not-found and state-conflict.
 */
export async function acceptMachine(ctx: ControlContext, hostId: string): Promise<Host> {
  await unitOfWork(ctx, async (tx) => {
    const locked = await lockAgentRecord(tx, hostId);
    if (!locked) throw notFound("host");
    if (locked.record === null) return;
    if (!locked.isLeaseExpired) {
      throw new AppError("state-conflict", {
        detail:
          "The agent on the recorded machine of the host still syncs. Stop it, wait until the host is lost, then retry.",
      });
    }
    await updateAgentRecord(tx, hostId, null);
    tx.emit({ kind: "host-machine-accepted", data: {}, hostId });
  });
  return getHost(ctx, hostId);
}
