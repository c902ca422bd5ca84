import type { RotatedHook } from "../../contracts/api/autoscaling.ts";
import { notFound } from "../../contracts/common/app-error.ts";
import { findHook } from "../../db/queries/autoscaling/hooks.ts";
import { lockServiceByName } from "../../db/queries/services/write-services.ts";
import { endHookTokens, insertToken } from "../../db/queries/tenancy/tokens.ts";
import { newId } from "../../lib/ids.ts";
import { hashSecret, newSecret } from "../../lib/token-hash.ts";
import type { ControlContext } from "../runtime/context.ts";
import { assertNotDeleting } from "../runtime/preconditions.ts";
import { unitOfWork } from "../runtime/unit-of-work.ts";

/**
 * Gives a hook a new token. The former one ends after `overlapSeconds`, and any older one at once,
 * so a hook has at most two valid tokens. The hook's id, paths, rules and demands stay. Throws
 * not-found and state-conflict.
 */
export async function rotateHook(
  ctx: ControlContext,
  tenantId: string,
  serviceName: string,
  hookId: string,
  overlapSeconds: number,
): Promise<RotatedHook> {
  const token = newSecret();
  const formerExpiresAt = await unitOfWork(ctx, async (tx) => {
    // The lock of the service makes concurrent rotations run one after the other.
    const service = await lockServiceByName(tx, tenantId, serviceName);
    if (!service) throw notFound("hook");
    assertNotDeleting(service);
    const hook = await findHook(tx, hookId);
    if (hook?.serviceId !== service.id) throw notFound("hook");
    const endsAt = await endHookTokens(tx, hookId, overlapSeconds);
    const tokenId = newId("tok");
    await insertToken(tx, {
      id: tokenId,
      name: hook.name,
      role: "hook",
      tenantId,
      hookId,
      pool: null,
      secretHash: hashSecret(token),
      expiresInSeconds: null,
    });
    tx.emit({
      kind: "token-created",
      tenantId,
      serviceId: service.id,
      data: { cause: "hook-rotation", service: serviceName, name: hook.name, tokenId, hookId },
    });
    return endsAt;
  });
  ctx.tokenCache.clear();
  return { token, formerExpiresAt };
}
