import { AppError, notFound } from "../../contracts/common/app-error.ts";
import type { CreateHook, Hook } from "../../contracts/api/autoscaling.ts";
import { countHooks, type HookReadRow, insertHook } from "../../db/queries/autoscaling/hooks.ts";
import { lockServiceByName, type ServiceRow } from "../../db/queries/services/write-services.ts";
import { insertToken } from "../../db/queries/tenancy/tokens.ts";
import { newId } from "../../lib/ids.ts";
import { hashSecret, newSecret } from "../../lib/token-hash.ts";
import type { ControlContext } from "../runtime/context.ts";
import { unitOfWork } from "../runtime/unit-of-work.ts";
import { assertNotDeleting } from "../runtime/preconditions.ts";

export const HOOKS_PER_SERVICE_MAX = 32;

/**
 * Makes a hook that alerts of one service are sent to, with a token that is good for nothing else. The token is in this
 * answer and nowhere else. Throws not-found, already-exists, invalid-request, and state-conflict when the service has
 * no bounds yet or as many hooks as it may.
 */
export async function createHook(
  ctx: ControlContext,
  tenantId: string,
  serviceName: string,
  body: CreateHook,
): Promise<{ hook: Hook; token: string }> {
  assertStorableRules(body.rules);
  const id = newId("hook");
  const token = newSecret();
  const hook = await unitOfWork(ctx, async (tx) => {
    const service = await lockServiceByName(tx, tenantId, serviceName);
    if (!service) throw notFound("service");
    assertNotDeleting(service);
    assertHasBounds(service);
    if ((await countHooks(tx, service.id)) >= HOOKS_PER_SERVICE_MAX) {
      throw new AppError("state-conflict", {
        detail: `The service has ${HOOKS_PER_SERVICE_MAX} hooks, as many as it may: delete one first.`,
      });
    }
    const { name, rules, stabilisationSeconds } = body;
    const row = { id, tenantId, serviceId: service.id, name, rules, stabilisationSeconds };
    const createdAt = await insertHook(tx, row);
    const tokenId = newId("tok");
    await insertToken(tx, {
      id: tokenId,
      name,
      role: "hook",
      tenantId,
      hookId: id,
      pool: null,
      secretHash: hashSecret(token),
      expiresInSeconds: null,
    });
    tx.emit({
      kind: "token-created",
      text: `a hook ${name} of ${serviceName} was created, with its token`,
      tenantId,
      serviceId: service.id,
      data: { tokenId, hookId: id },
    });
    return toHook({ id, name, rules, stabilisationSeconds, createdAt }, serviceName);
  });
  return { hook, token };
}

export function toHook(row: HookReadRow, service: string): Hook {
  const { id, name, rules, stabilisationSeconds, createdAt } = row;
  const paths = { alertmanager: `/hooks/alertmanager/${id}`, generic: `/hooks/generic/${id}` };
  return { id, name, service, rules, stabilisationSeconds, paths, createdAt };
}

/** Without bounds an alert could grow the service to anything, so they come first. */
function assertHasBounds(service: ServiceRow): void {
  if (service.autoscale) return;
  throw new AppError("state-conflict", {
    detail:
      "The service has no bounds for scaling: set autoscale.min and autoscale.max first (PATCH the service).",
  });
}

/** Throws invalid-request for labels that the database could not keep. */
export function assertStorableRules(rules: CreateHook["rules"]): void {
  const index = rules.findIndex((rule) =>
    Object.entries(rule.match).some((entry) => /[\0\p{Surrogate}]/u.test(entry.join(""))),
  );
  if (index < 0) return;
  throw new AppError("invalid-request", {
    detail: "A label to match has a NUL character or half of a surrogate pair in it.",
    errors: [{ pointer: `/rules/${index}/match`, detail: "expected valid Unicode text" }],
  });
}
