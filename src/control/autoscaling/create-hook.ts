import { AppError, notFound } from "../../contracts/common/app-error.ts";
import type { CreateHook, Hook } from "../../contracts/api/autoscaling.ts";
import { countHooks, type HookReadRow, insertHook } from "../../db/queries/autoscaling/hooks.ts";
import { lockServiceByName, type ServiceRow } from "../../db/queries/services/write-services.ts";
import { newId } from "../../lib/ids.ts";
import type { ControlContext } from "../runtime/context.ts";
import { unitOfWork } from "../runtime/unit-of-work.ts";
import { assertNotDeleting } from "../runtime/preconditions.ts";
import { issueHookToken } from "./issue-hook-token.ts";

export const HOOKS_PER_SERVICE_MAX = 32;

/**
 * Creates a hook that receives the alerts of one service, with a token that permits nothing else.
 * Only this response contains the token. Throws not-found, already-exists, invalid-request, and
 * state-conflict if the service has no bounds yet or has the maximum number of hooks.
 */
export async function createHook(
  ctx: ControlContext,
  tenantId: string,
  serviceName: string,
  body: CreateHook,
): Promise<{ hook: Hook; token: string }> {
  assertStorableRules(body.rules);
  const id = newId("hook");
  return unitOfWork(ctx, async (tx) => {
    const service = await lockServiceByName(tx, tenantId, serviceName);
    if (!service) throw notFound("service");
    assertNotDeleting(service);
    assertHasBounds(service);
    if ((await countHooks(tx, service.id)) >= HOOKS_PER_SERVICE_MAX) {
      throw new AppError("state-conflict", {
        detail: `The service has ${HOOKS_PER_SERVICE_MAX} hooks, the maximum. Delete one first.`,
      });
    }
    const { name, rules, stabilizationSeconds } = body;
    const row = { id, tenantId, serviceId: service.id, name, rules, stabilizationSeconds };
    const createdAt = await insertHook(tx, row);
    const about = { tenantId, serviceId: service.id, serviceName, hookId: id, name };
    const token = await issueHookToken(tx, about, "hook");
    const hook = toHook({ id, name, rules, stabilizationSeconds, createdAt }, serviceName);
    return { hook, token };
  });
}

export function toHook(row: HookReadRow, service: string): Hook {
  const { id, name, rules, stabilizationSeconds, createdAt } = row;
  const paths = {
    alertmanager: `/hooks/alertmanager/${id}`,
    grafana: `/hooks/grafana/${id}`,
    zabbix: `/hooks/zabbix/${id}`,
    falcon: `/hooks/falcon/${id}`,
    generic: `/hooks/generic/${id}`,
  };
  return { id, name, service, rules, stabilizationSeconds, paths, createdAt };
}

/** Without bounds an alert could scale the service to any size. Throws state-conflict. */
function assertHasBounds(service: ServiceRow): void {
  if (service.autoscale) return;
  throw new AppError("state-conflict", {
    detail:
      "The service has no bounds for scaling. Set `autoscale.min` and `autoscale.max` first (PATCH the service).",
  });
}

/** Throws invalid-request for labels that the database cannot store. */
export function assertStorableRules(rules: CreateHook["rules"]): void {
  const index = rules.findIndex((rule) =>
    Object.entries(rule.match).some((entry) => /[\0\p{Surrogate}]/u.test(entry.join(""))),
  );
  if (index < 0) return;
  throw new AppError("invalid-request", {
    detail: "A label in `match` contains a NUL character or half of a surrogate pair.",
    errors: [{ pointer: `/rules/${index}/match`, detail: "expected valid Unicode text" }],
  });
}
