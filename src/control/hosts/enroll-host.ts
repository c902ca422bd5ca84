import { AppError } from "../../contracts/common/app-error.ts";
import {
  type Enroll,
  type Enrolled,
  LEASE_SECONDS,
} from "../../contracts/agent-protocol/protocol.ts";
import {
  findHostLease,
  hostPoolExists,
  type HostLeaseRow,
  insertHost,
  useEnrollToken,
} from "../../db/queries/hosts/write-hosts.ts";
import { newId } from "../../lib/ids.ts";
import { hashSecret, newSecret } from "../../lib/token-hash.ts";
import type { Caller } from "../../contracts/api/caller.ts";
import type { ControlContext, UnitOfWork } from "../runtime/context.ts";
import { unitOfWork } from "../runtime/unit-of-work.ts";

/**
 * Trades an enroll token, which works once, for a host id and a credential of its own. A host that made its credential itself and
 * asks again, as it never got an answer, is given the same one. Throws unauthenticated when the token was used otherwise,
 * already-exists when a host of this name is enrolled.
 */
export async function enrollHost(
  ctx: ControlContext,
  caller: Caller,
  { credential = newSecret(), ...body }: Enroll,
): Promise<Enrolled> {
  const credentialHash = hashSecret(credential);
  const hostId = await unitOfWork(ctx, async (tx) => {
    // Whoever uses the same token at the same time waits here, so that one of two equal requests finds the other's host.
    const isFirstUse = await useEnrollToken(tx, caller.tokenId);
    const before = await findHostLease(tx, { credentialHash });
    if (before) return before.hostId;
    if (!isFirstUse) {
      throw new AppError("unauthenticated", {
        detail: "The enroll token was used already: make a new one for each host.",
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
  if (!(await hostPoolExists(tx, pool))) {
    throw new AppError("invalid-request", {
      detail: `The token is for host pool ${pool}, which does not exist.`,
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

/** A host that has shown its credential, as its row was then. */
export type HostCaller = HostLeaseRow;

/** The host that this credential belongs to, with what its sync needs to know of it: one query for both. */
export async function authenticateHost(
  ctx: ControlContext,
  credential: string,
): Promise<HostCaller | undefined> {
  return findHostLease(ctx.db, { credentialHash: hashSecret(credential) });
}
