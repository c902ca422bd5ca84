import type { AgentIdentity } from "../../contracts/agent-protocol/agent-identity.ts";
import { CREDENTIAL_ROTATION_FEATURE } from "../../contracts/agent-protocol/agent-features.ts";
import type { Caller } from "../../contracts/api/caller.ts";
import type { Host } from "../../contracts/api/hosts.ts";
import { AppError, notFound } from "../../contracts/common/app-error.ts";
import {
  lockHostCredentials,
  requestRotation,
  storeNextCredential,
} from "../../db/queries/hosts/host-credentials.ts";
import { hashSecret } from "../../lib/token-hash.ts";
import type { ControlContext } from "../runtime/context.ts";
import { unitOfWork } from "../runtime/unit-of-work.ts";
import type { HostCaller } from "./authenticate-host.ts";
import { isSettled } from "./decide-admission.ts";
import { getHost } from "./get-host.ts";

/**
 * Requests that the agent of a host replaces its credential. A host that is down does so when it
 * returns. The current credential stays valid until the first use of the next one, however long
 * that takes. A repeated request changes nothing.
 *
 * Throws not-found, and state-conflict if the agent cannot do it.
 */
export async function rotateHostCredential(
  ctx: ControlContext,
  caller: Pick<Caller, "tokenId">,
  hostId: string,
): Promise<Host> {
  await unitOfWork(ctx, async (tx) => {
    const locked = await lockHostCredentials(tx, hostId);
    if (!locked) throw notFound("host");
    if (locked.isRotationRequested) return;
    if (!locked.features?.includes(CREDENTIAL_ROTATION_FEATURE)) {
      throw new AppError("state-conflict", {
        detail: `The agent of host ${locked.name} cannot rotate its credential, or has not reported that it can. Upgrade the agent, wait for its next report, then retry.`,
      });
    }
    await requestRotation(tx, hostId);
    const data = { cause: "request" as const, host: locked.name, by: caller.tokenId };
    tx.emit({ kind: "host-credential-rotated", data, hostId });
    tx.signal(`host:${hostId}`);
  });
  return getHost(ctx, hostId);
}

/**
 * Stores the next credential of a host, which its agent has generated and saved. Both are valid
 * until the first use of the next one. A repeated request with the same credential has the same
 * result. Another credential replaces one that was not used, so at most two are valid.
 *
 * Throws state-conflict without a requested rotation, and for an agent that does not manage the
 * host. A request without an identity is refused if a process with one manages the host.
 */
export async function takeNextCredential(
  ctx: ControlContext,
  host: HostCaller,
  credential: string,
  agent: (AgentIdentity & { isEnding: boolean }) | undefined,
): Promise<void> {
  // A copy of the machine must not replace the credential of the host (I3). If the process that
  // manages the host has an identity, its request has it, too. Simulated hosts have none.
  if (host.agent !== null && (agent === undefined || !isSettled(host.agent, agent)))
    throw conflict("Another agent manages the host.");
  const hash = hashSecret(credential);
  await unitOfWork(ctx, async (tx) => {
    const locked = await lockHostCredentials(tx, host.hostId);
    if (!locked) throw notFound("host");
    if (locked.credentialHash === hash || locked.nextCredentialHash === hash) return;
    // The agent has saved that one as its credential, so it must stay valid.
    if (host.usesNextCredential || !locked.isRotationRequested)
      throw conflict("No operator has requested the rotation of the credential.");
    await storeNextCredential(tx, host.hostId, hash);
  });
}

function conflict(detail: string): AppError {
  return new AppError("state-conflict", { detail });
}
