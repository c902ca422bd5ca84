import { AppError } from "../../contracts/common/app-error.ts";
import type { RolloutStrategy } from "../../contracts/api/rollouts.ts";
import type { SetTemplate } from "../../contracts/api/set-template.ts";
import { getSizedTemplate, type ServiceRow } from "../../db/queries/services/write-services.ts";
import { chooseMethod, type MethodChoice } from "../../scheduler/rollout/choose-method.ts";
import {
  compareTemplates,
  describeRestart,
  type TemplateDiff,
} from "../../scheduler/rollout/compare-templates.ts";
import { permitsSurge } from "../../scheduler/rollout/may-disrupt.ts";
import type { ControlContext, UnitOfWork } from "../runtime/context.ts";
import { assertSupported } from "../runtime/supported-features.ts";
import { assertWithinQuota, computeSetAmounts, subtractAmounts } from "../tenancy/quota.ts";

/**
 * Checks that a rollout from `service` to the target of `changed` can start, and reserves the quota
 * of its sets in `changed`. Returns its effects. Throws unsupported, invalid-request,
 * quota-exceeded.
 */
export async function prepareRollout(
  ctx: ControlContext,
  tx: UnitOfWork,
  service: ServiceRow,
  changed: ServiceRow,
  { strategy, isRestart }: { strategy: RolloutStrategy; isRestart: boolean },
): Promise<string[]> {
  const toRevision = isRestart ? service.revision : changed.targetRevision;
  assertSupported(ctx.settings, { template: await getSizedTemplate(tx, changed, toRevision) });
  return reserveRollout(tx, service, changed, { strategy, isRestart });
}

/**
 * The part of `prepareRollout` that may have changed while a rollout waited for the end of another
 * one. The caller has locked no hosts. Throws invalid-request, quota-exceeded.
 */
export async function reserveRollout(
  tx: UnitOfWork,
  service: ServiceRow,
  changed: ServiceRow,
  { strategy, isRestart }: { strategy: RolloutStrategy; isRestart: boolean },
): Promise<string[]> {
  const toRevision = isRestart ? service.revision : changed.targetRevision;
  const before = await getSizedTemplate(tx, service);
  const after = await getSizedTemplate(tx, changed, toRevision);
  const effects = describeMethod(changed, strategy, before, after, isRestart);
  if (!isRestart) await reserveQuota(tx, service, changed, { before, after });
  return effects;
}

/**
 * New sets may have either revision, so the service reserves the larger root file system. Throws
 * quota-exceeded.
 */
async function reserveQuota(
  tx: UnitOfWork,
  service: ServiceRow,
  changed: ServiceRow,
  { before, after }: { before: SetTemplate; after: SetTemplate },
): Promise<void> {
  const rootfsBytes = Math.max(service.rootfsBytes, after.rootfsBytes);
  const count = changed.desiredReplicas;
  changed.rootfsBytes = rootfsBytes;
  await assertWithinQuota(tx, service.tenantId, {
    intended: subtractAmounts(
      computeSetAmounts({ ...after, rootfsBytes }, count),
      computeSetAmounts({ ...before, rootfsBytes: service.rootfsBytes }, count),
    ),
    existing: computeSetAmounts(after, 0),
  });
}

/**
 * Describes how the sets of a service get another template. Throws invalid-request if no method can
 * apply the change, or if the budget never permits it.
 */
function describeMethod(
  service: Pick<ServiceRow, "disruption" | "desiredReplicas">,
  { method }: Pick<RolloutStrategy, "method">,
  from: SetTemplate,
  to: SetTemplate,
  isRestart: boolean,
): string[] {
  const diff = isRestart ? describeRestart(to) : compareTemplates(from, to);
  const choice = chooseMethod(method, diff, {
    hasVolume: from.volume !== null || to.volume !== null,
    hasStaticAddress: to.networks.some(({ address }) => address !== undefined),
    permitsSurge: permitsSurge(service.disruption),
    isAvailable: true,
    isHostDraining: false,
  });
  if (!choice.ok) throw notApplicable(choice);
  const { maxUnavailable } = service.disruption;
  const isForbidden = maxUnavailable === 0 || maxUnavailable === "0%";
  const interrupts = choice.method !== "start-first" && !diff.servesDuringUpdate;
  if (interrupts && isForbidden) {
    throw invalid(
      "/strategy/method",
      "The sets change in place, and the disruption budget permits no unavailable set. Set `disruption.maxUnavailable` to 1 or more.",
    );
  }
  return [
    describeChoice(choice, diff),
    ...describePorts(from, to),
    ...(interrupts && service.desiredReplicas === 1
      ? ["The set does not serve during its update."]
      : []),
  ];
}

function describeChoice(
  { method, because }: MethodChoice & { ok: true },
  diff: TemplateDiff,
): string {
  if (because === "nothing-restarts") return "Berth applies the change without a restart.";
  const containers = diff.containers.join(", ");
  if (method === "start-first")
    return "Another set becomes ready before each set is removed (start-first).";
  const causes: Partial<Record<typeof because, string>> = {
    volume: ", because its volume stays on its host",
    "static-address": ", because its address is fixed",
    "no-surge": ", because `disruption.maxSurge` is 0",
  };
  return `Each set stays on its host, and Berth replaces ${containers} (${method})${causes[because] ?? ""}.`;
}

/** SRV records have the ports of the current revision, until the rollout has completed. */
function describePorts(from: SetTemplate, to: SetTemplate): string[] {
  if (JSON.stringify(from.ports ?? []) === JSON.stringify(to.ports ?? [])) return [];
  return [
    "The ports change. SRV records have those of the previous revision until the rollout has completed.",
  ];
}

function notApplicable({ member }: MethodChoice & { ok: false }): AppError {
  return invalid(
    `/template/${member}`,
    `A set cannot change its ${member}, and no other set can take its place because of its volume, its fixed address or \`disruption.maxSurge\`.`,
  );
}

function invalid(pointer: string, detail: string): AppError {
  return new AppError("invalid-request", { detail, errors: [{ pointer, detail }] });
}
