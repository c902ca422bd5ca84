import { promoteNextCredential } from "../../db/queries/hosts/host-credentials.ts";
import {
  findHostLease,
  findHostLeases,
  type HostLeaseRow,
} from "../../db/queries/hosts/write-hosts.ts";
import { createBatchedRead } from "../../lib/async/batch-reads.ts";
import { hashSecret } from "../../lib/token-hash.ts";
import { bindWork } from "../runtime/bind-work.ts";
import type { ControlContext } from "../runtime/context.ts";
import { unitOfWork } from "../runtime/unit-of-work.ts";

/** An authenticated host, with the state of its row at that time. */
export interface HostCaller extends HostLeaseRow {
  /** The agent already uses the next credential, and the rotation has not ended. */
  usesNextCredential?: boolean;
}

const batchLimits = { keysMax: 100, batchesMax: 4 };

/**
 * Returns a function that finds the host of a credential, and the state that its sync needs. It
 * reads the credentials of concurrent syncs in batches. The first use of the next credential ends a
 * rotation: from then on, Berth refuses the previous one.
 */
export function createHostAuthenticator(
  ctx: ControlContext,
): (credential: string) => Promise<HostCaller | undefined> {
  const agentCtx = bindWork(ctx, { kind: "agent" });
  const find = createBatchedRead<string, HostCaller | undefined>(
    (hashes) => findHostLeases(agentCtx.db, hashes),
    batchLimits,
  );
  return async (credential) => {
    const hash = hashSecret(credential);
    return (await find(hash)) ?? endRotation(agentCtx, hash);
  };
}

/**
 * Finds the host of a next credential, and makes it the only credential. While another transaction
 * has locked the host, both stay valid, so that authentication waits for no lock (I15).
 */
async function endRotation(ctx: ControlContext, hash: string): Promise<HostCaller | undefined> {
  // It also finds a host whose rotation a concurrent request has just ended.
  const host = await findHostLease(ctx.db, { anyCredentialHash: hash });
  if (!host) return undefined;
  const promoted = await unitOfWork(ctx, async (tx) => {
    const rotated = await promoteNextCredential(tx, hash);
    if (rotated) {
      const { hostId, name } = rotated;
      tx.emit({ kind: "host-credential-rotated", data: { cause: "used", host: name }, hostId });
    }
    return rotated;
  });
  if (!promoted) return { ...host, usesNextCredential: true };
  ctx.log.info({ hostId: host.hostId }, "the agent uses its new credential");
  return { ...host, isRotationRequested: false };
}
