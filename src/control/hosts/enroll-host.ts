import { AppError } from "../../contracts/common/app-error.ts";
import type { Enroll, Enrolled } from "../../contracts/agent-protocol/enroll.ts";
import { LEASE_SECONDS } from "../../contracts/agent-protocol/protocol.ts";
import { hasHostPool } from "../../db/queries/hosts/host-pools.ts";
import { findHostLease, insertHost, useEnrollToken } from "../../db/queries/hosts/write-hosts.ts";
import { newId } from "../../lib/ids.ts";
import { hashSecret, newSecret } from "../../lib/token-hash.ts";
import type { Caller } from "../../contracts/api/caller.ts";
import type { ControlContext, UnitOfWork } from "../runtime/context.ts";
import { unitOfWork } from "../runtime/unit-of-work.ts";

/**
 * Exchanges an enroll token, which is valid once, for a host id and a credential. A repeated
 * request with the same generated credential has the same answer, so an agent may repeat a request
 * whose answer was lost. Throws unauthenticated for a token that another host used, and
 * already-exists if an enrolled host has this name.
 */
export async function enrollHost(
  ctx: ControlContext,
  caller: Caller,
  { credential = newSecret(), ...body }: Enroll,
): Promise<Enrolled> {
  const credentialHash = hashSecret(credential);
  const hostId = await unitOfWork(ctx, async (tx) => {
    // A concurrent request with the same token waits here, and then finds the host of the first.
    const isFirstUse = await useEnrollToken(tx, caller.tokenId);
    const before = await findHostLease(tx, { credentialHash });
    if (before) return before.hostId;
    if (!isFirstUse) {
      throw new AppError("unauthenticated", {
        detail: "The enroll token has already been used. Create a new token for each host.",
      });
    }
    return insertEnrolled(tx, caller.pool ?? "default", { ...body, credentialHash });
  });
  return { hostId, credential };
}

async function insertEnrolled(
  tx: UnitOfWork,
  pool: string,
  host: Omit<Enroll, "credential"> & { credentialHash: string },
): Promise<string> {
  if (!(await hasHostPool(tx, pool))) {
    throw new AppError("invalid-request", {
      detail: `The host pool ${pool} of the token does not exist. Create the pool first.`,
    });
  }
  const hostId = newId("host");
  const { name, zone, rack, labels, agentVersion, allocatable, credentialHash } = host;
  await insertHost(tx, {
    id: hostId,
    name,
    pool,
    zone,
    rack,
    labels,
    agentVersion,
    credentialHash,
    allocatable,
    leaseSeconds: LEASE_SECONDS,
  });
  tx.emit({ kind: "host-enrolled", data: { host: name, pool }, hostId });
  return hostId;
}
