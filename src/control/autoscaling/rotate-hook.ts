import type { RotatedHook } from "../../contracts/api/autoscaling.ts";
import { notFound } from "../../contracts/common/app-error.ts";
import { findHook } from "../../db/queries/autoscaling/hooks.ts";
import { lockServiceByName } from "../../db/queries/services/write-services.ts";
import { endHookTokens } from "../../db/queries/tenancy/tokens.ts";
import type { ControlContext } from "../runtime/context.ts";
import { assertNotDeleting } from "../runtime/preconditions.ts";
import { unitOfWork } from "../runtime/unit-of-work.ts";
import { issueHookToken } from "./issue-hook-token.ts";

/**
 * Replaces the token of a hook. The previous token expires after `overlapSeconds`, and any older
 * one immediately, so a hook has at most two valid tokens. The hook's id, paths, rules and demands
 * do not change. Throws not-found and state-conflict.
 */
export async function rotateHook(
  ctx: ControlContext,
  tenantId: string,
  serviceName: string,
  hookId: string,
  overlapSeconds: number,
): Promise<RotatedHook> {
  const rotated = await unitOfWork(ctx, async (tx) => {
    // The lock of the service makes concurrent rotations run one after the other.
    const service = await lockServiceByName(tx, tenantId, serviceName);
    if (!service) throw notFound("hook");
    assertNotDeleting(service);
    const hook = await findHook(tx, hookId);
    if (hook?.serviceId !== service.id) throw notFound("hook");
    const formerExpiresAt = await endHookTokens(tx, hookId, overlapSeconds);
    const about = { tenantId, serviceId: service.id, serviceName, hookId, name: hook.name };
    return { token: await issueHookToken(tx, about, "hook-rotation"), formerExpiresAt };
  });
  ctx.tokenCache.clear();
  return rotated;
}
