import { AppError } from "../contracts/app-error.ts";
import { type Enroll, type Enrolled, LEASE_SECONDS } from "../contracts/agent.ts";
import { insertEvents } from "../db/queries/events.ts";
import {
  findHostLease,
  hostPoolExists,
  type HostLeaseRow,
  insertHost,
  useEnrollToken,
} from "../db/queries/host-writes.ts";
import { withTx } from "../db/tx.ts";
import { newId } from "../lib/ids.ts";
import { hashSecret, newSecret } from "../lib/secrets.ts";
import type { Caller, ServiceContext } from "./context.ts";

/**
 * Trades an enroll token, which works once, for a host id and a credential of its own. Throws unauthenticated when the token
 * was used meanwhile, already-exists when a host of this name is enrolled.
 */
export async function enrollHost(
  ctx: ServiceContext,
  caller: Caller,
  body: Enroll,
): Promise<Enrolled> {
  const hostId = newId("host");
  const credential = newSecret();
  const pool = caller.pool ?? "default";
  await withTx(ctx.db, async (tx) => {
    if (!(await useEnrollToken(tx, caller.tokenId))) {
      throw new AppError("unauthenticated", {
        detail: "The enroll token was used already: make a new one for each host.",
      });
    }
    if (!(await hostPoolExists(tx, pool))) {
      throw new AppError("invalid-request", {
        detail: `The token is for host pool ${pool}, which does not exist.`,
      });
    }
    await insertHost(tx, {
      id: hostId,
      name: body.name,
      pool,
      zone: body.zone,
      rack: body.rack,
      labels: body.labels,
      agentVersion: body.agentVersion,
      credentialHash: hashSecret(credential),
      allocatable: body.allocatable,
      leaseSeconds: LEASE_SECONDS,
    });
    await insertEvents(tx, [
      { kind: "host-enrolled", text: `${body.name} was enrolled into pool ${pool}`, hostId },
    ]);
  });
  return { hostId, credential };
}

/** A host that has shown its credential, as its row was then. */
export type HostCaller = HostLeaseRow;

/** The host that this credential belongs to, with what its sync needs to know of it: one query for both. */
export async function authenticateHost(
  ctx: ServiceContext,
  credential: string,
): Promise<HostCaller | undefined> {
  return findHostLease(ctx.db, { credentialHash: hashSecret(credential) });
}
