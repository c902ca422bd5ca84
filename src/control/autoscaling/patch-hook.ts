import { notFound } from "../../contracts/common/app-error.ts";
import type { Hook, PatchHook } from "../../contracts/api/autoscaling.ts";
import { updateHook } from "../../db/queries/autoscaling/hooks.ts";
import { lockServiceByName } from "../../db/queries/services/write-services.ts";
import type { ControlContext } from "../runtime/context.ts";
import { unitOfWork } from "../runtime/unit-of-work.ts";
import { assertStorableRules, toHook } from "./create-hook.ts";
import { assertNotDeleting } from "../runtime/preconditions.ts";

/**
 * Changes a hook's rules or its stabilization window; its URL and token stay. Held demands keep
 * the want of the rule that raised them. Throws not-found, state-conflict, invalid-request.
 */
export async function patchHook(
  ctx: ControlContext,
  tenantId: string,
  serviceName: string,
  hookId: string,
  patch: PatchHook,
): Promise<Hook> {
  assertStorableRules(patch.rules ?? []);
  return unitOfWork(ctx, async (tx) => {
    const service = await lockServiceByName(tx, tenantId, serviceName);
    if (!service) throw notFound("hook");
    assertNotDeleting(service);
    const hook = await updateHook(tx, service.id, hookId, patch);
    if (!hook) throw notFound("hook");
    tx.emit({
      kind: "hook-changed",
      tenantId,
      serviceId: service.id,
      data: { service: serviceName, hook: hook.name, hookId, changed: Object.keys(patch) },
    });
    return toHook(hook, serviceName);
  });
}
