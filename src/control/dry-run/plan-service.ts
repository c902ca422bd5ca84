import { AppError, notFound } from "../../contracts/common/app-error.ts";
import type { PlanRequest, PlanResult } from "../../contracts/api/dry-run.ts";
import type { CreateService } from "../../contracts/api/services.ts";
import type { SetTemplate } from "../../contracts/api/set-template.ts";
import type { Db, Queryable } from "../../db/postgres/open-postgres.ts";
import {
  findServiceByName,
  getSizedTemplate,
  type ServiceRow,
} from "../../db/queries/services/write-services.ts";
import { countLiveSets } from "../../db/queries/sets/write-sets.ts";
import { withTx } from "../../db/transaction.ts";
import { createConcurrencyLimit } from "../../lib/async/concurrency-limit.ts";
import {
  explainPlacement,
  explainRejection,
  explainRemoval,
} from "../../scheduler/placement/explain.ts";
import type { Placement, PlacementRequest, Plan } from "../../scheduler/placement/model.ts";
import { planPlacements } from "../../scheduler/placement/plan.ts";
import { assertNetworksExist } from "../networks/assert-networks-exist.ts";
import { bindWork } from "../runtime/bind-work.ts";
import type { ControlContext } from "../runtime/context.ts";
import { FleetCache } from "../placement/fleet-cache.ts";
import { buildServiceRequests } from "../placement/placement-requests.ts";
import { chooseRemovals, type Removal } from "../replicas/choose-removals.ts";
import { assertWithinBounds } from "../services/scale-service.ts";
import { assertGranted } from "../tenancy/grants.ts";
import {
  computeSetAmounts,
  assertWithinQuotaUnlocked,
  computeSetGrowth,
  subtractAmounts,
} from "../tenancy/quota.ts";
import { assertSupported } from "../runtime/supported-features.ts";

const HOSTS_LISTED_MAX = 500;
const REMOVALS_LISTED_MAX = 500;
/** The lines of each kind in the text of a plan. */
const LINES_MAX = 20;

/** Dry runs that may wait for their turn. Further ones are rejected. */
const WAITING_MAX = 16;
/** Dry runs of one tenant that may wait, so that others find a place. */
const WAITING_PER_TENANT_MAX = 8;

export interface ServicePlanner {
  /** Plans a change with the planner of the placement, on the current fleet. Commits nothing. */
  plan(tenantId: string, body: PlanRequest): Promise<PlanResult>;
}

/**
 * Creates the planner of dry runs for a process. They share one fleet in memory, which each run
 * refreshes, and run one at a time. They lock no rows, so that neither changes nor placements wait
 * for them. `plan` throws what the planned request would throw: not-found, unsupported,
 * invalid-request, grant-missing or quota-exceeded. It throws rate-limited if too many dry runs of
 * the tenant wait, and dependency-unavailable if too many wait in total.
 */
export function createServicePlanner(ctx: ControlContext): ServicePlanner {
  let fleetCache: FleetCache | undefined;
  const inTurn = createConcurrencyLimit(1);
  let waiting = 0;
  const waitingByTenant = new Map<string, number>();

  async function planNext(db: Db, intent: Intent): Promise<PlanResult> {
    const cache = (fleetCache ??= new FleetCache(ctx.settings));
    // A refresh that fails leaves the fleet as it was, or drops it.
    const { fleet, policy, nowMs } = await withTx(db, (tx) => cache.refresh(tx));
    try {
      const plan = planPlacements(fleet, intent.requests, { seed: policy.version, nowMs });
      return describePlan(cache, plan, intent);
    } catch (error) {
      cache.reset(); // the planner may have stopped in the middle
      throw error;
    }
  }

  return {
    async plan(tenantId, body) {
      const ofTenant = waitingByTenant.get(tenantId) ?? 0;
      if (ofTenant >= WAITING_PER_TENANT_MAX) throw tenantLimitError();
      if (waiting >= WAITING_MAX) throw totalLimitError();
      waiting++;
      waitingByTenant.set(tenantId, ofTenant + 1);
      try {
        if (body.kind !== "scale") assertSupported(ctx.settings, body.service);
        const { db } = bindWork(ctx, { kind: "request", owner: tenantId });
        if (body.kind !== "scale")
          await assertNetworksExist(db, tenantId, body.service.template, { isLocking: false });
        const intent = await planIntent(db, tenantId, body);
        return await inTurn(() => planNext(db, intent));
      } finally {
        waiting--;
        const remaining = (waitingByTenant.get(tenantId) ?? 1) - 1;
        if (remaining === 0) waitingByTenant.delete(tenantId);
        else waitingByTenant.set(tenantId, remaining);
      }
    },
  };
}

function tenantLimitError(): AppError {
  return new AppError("rate-limited", {
    detail: `A tenant may have ${WAITING_PER_TENANT_MAX} dry runs at the same time. Retry the request later.`,
    retryAfterMs: 1_000,
  });
}

function totalLimitError(): AppError {
  return new AppError("dependency-unavailable", {
    detail: "Too many dry runs wait for their turn. Retry the request later.",
    retryAfterMs: 1_000,
  });
}

function planIntent(q: Queryable, tenantId: string, body: PlanRequest): Promise<Intent> {
  switch (body.kind) {
    case "create":
      return planCreate(q, tenantId, body.service);
    case "apply":
      return planApply(q, tenantId, body.service);
    case "scale":
      return planScale(q, tenantId, body);
  }
}

interface Intent {
  name: string;
  requests: PlacementRequest[];
  removals: Removal[];
}

async function planCreate(tx: Queryable, tenantId: string, body: CreateService): Promise<Intent> {
  await assertGranted(tx, tenantId, body);
  await assertWithinQuotaUnlocked(tx, tenantId, computeSetGrowth(body.template, body.replicas));
  // Not an id of newId, because the service does not exist.
  const requests = await requestsFor(
    tx,
    tenantId,
    { ...body, id: "svc_plan" },
    body.template,
    body.replicas,
  );
  return { name: body.name, requests, removals: [] };
}

/** Existing sets keep their template and their host. Added sets get the new template. */
async function planApply(tx: Queryable, tenantId: string, body: CreateService): Promise<Intent> {
  const service = await findServiceByName(tx, tenantId, body.name);
  if (!service) return planCreate(tx, tenantId, body);
  const { placement, priority } = body;
  await assertGranted(tx, tenantId, body);
  const before = await getSizedTemplate(tx, service);
  await assertWithinQuotaUnlocked(tx, tenantId, {
    intended: subtractAmounts(
      computeSetAmounts(body.template, body.replicas),
      computeSetAmounts(before, service.desiredReplicas),
    ),
    existing: computeSetAmounts(
      body.template,
      Math.max(0, body.replicas - service.desiredReplicas),
    ),
  });
  return planChange(tx, { ...service, placement, priority }, body.template, body.replicas);
}

async function planScale(
  tx: Queryable,
  tenantId: string,
  body: Extract<PlanRequest, { kind: "scale" }>,
): Promise<Intent> {
  const service = await findServiceByName(tx, tenantId, body.service);
  if (!service) throw notFound("service");
  assertWithinBounds(service, body.replicas);
  const template = await getSizedTemplate(tx, service);
  if (body.replicas > service.desiredReplicas) {
    await assertGranted(tx, tenantId, service);
    const growth = computeSetGrowth(template, body.replicas - service.desiredReplicas);
    await assertWithinQuotaUnlocked(tx, tenantId, growth);
  }
  return planChange(tx, service, template, body.replicas);
}

async function planChange(
  tx: Queryable,
  service: ServiceRow,
  template: SetTemplate,
  replicas: number,
): Promise<Intent> {
  const live = await countLiveSets(tx, service.id);
  const added = Math.max(0, replicas - live);
  const requests = await requestsFor(tx, service.tenantId, service, template, added);
  const removals =
    replicas < live ? await chooseRemovals(tx, service, { desired: replicas, limit: live }) : [];
  return { name: service.name, requests, removals };
}

async function requestsFor(
  tx: Queryable,
  tenantId: string,
  service: Pick<ServiceRow, "id" | "name" | "placement" | "priority">,
  template: SetTemplate,
  count: number,
): Promise<PlacementRequest[]> {
  const sets = Array.from({ length: count }, (_, position) => ({
    setId: `set_plan${String(position).padStart(6, "0")}`,
    template,
    avoidHostIds: [],
  }));
  return buildServiceRequests(tx, { ...service, tenantId }, sets);
}

function describePlan(cache: FleetCache, plan: Plan, intent: Intent): PlanResult {
  const byHost = new Map<string, { sets: number; example: Placement }>();
  for (const placement of plan.placements) {
    const entry = byHost.get(placement.hostId);
    if (entry) entry.sets++;
    else byHost.set(placement.hostId, { sets: 1, example: placement });
  }
  const hosts = [...byHost]
    .sort(([idA, a], [idB, b]) => b.sets - a.sets || (idA < idB ? -1 : 1))
    .map(([hostId, { sets, example }]) => ({
      hostId,
      hostName: cache.hostName(hostId),
      sets,
      because: explainPlacement(example),
    }));
  const rejection = plan.rejections[0];
  const lines = [
    `${intent.name}: ${plan.placements.length} sets would be placed, ${plan.rejections.length} would wait, ${intent.removals.length} would be removed.`,
    ...hosts
      .slice(0, LINES_MAX)
      .map((host) => `  ${host.hostName}: ${host.sets} (${host.because})`),
    ...(hosts.length > LINES_MAX ? [`  and ${hosts.length - LINES_MAX} more hosts`] : []),
    ...(rejection ? [`  waiting: ${explainRejection(rejection)}`] : []),
    ...describeRemovals(intent.removals),
  ];
  return {
    policyVersion: plan.policyVersion,
    text: lines.join("\n"),
    hosts: hosts.slice(0, HOSTS_LISTED_MAX),
    placed: plan.placements.length,
    rejected: plan.rejections.length,
    removed: intent.removals.length,
    removals: intent.removals
      .slice(0, REMOVALS_LISTED_MAX)
      .map(({ id, hostName, reason }) => ({ setId: id, hostName, reason })),
    reasons: rejection ? rejection.reasons.map((reason) => ({ ...reason })) : [],
    hostsTotal: rejection?.hostsTotal ?? byHost.size,
  };
}

function describeRemovals(removals: readonly Removal[]): string[] {
  const lines = removals
    .slice(0, LINES_MAX)
    .map(
      ({ id, hostName, reason }) =>
        `  remove ${id}${hostName === null ? "" : ` on ${hostName}`}: ${explainRemoval(reason)}`,
    );
  const remaining = removals.length - lines.length;
  return remaining > 0 ? [...lines, `  and ${remaining} more sets to remove`] : lines;
}
