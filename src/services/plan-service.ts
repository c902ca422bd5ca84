import { notFound } from "../contracts/app-error.ts";
import type { PlanRequest, PlanResult } from "../contracts/plans.ts";
import type { CreateService } from "../contracts/services.ts";
import type { SetTemplate } from "../contracts/set-template.ts";
import type { Queryable } from "../db/client.ts";
import { listServiceIds } from "../db/queries/placements.ts";
import { findTemplate, lockServiceByName, type ServiceRow } from "../db/queries/service-writes.ts";
import { countLiveSets, listScaleInVictims } from "../db/queries/set-writes.ts";
import { withTx } from "../db/tx.ts";
import { assert } from "../lib/assert.ts";
import { explainPlacement, explainRejection } from "../scheduler/explain.ts";
import type { Placement, PlacementRequest, Plan } from "../scheduler/model.ts";
import { planPlacements } from "../scheduler/plan.ts";
import type { ServiceContext } from "./context.ts";
import { FleetCache } from "./fleet-cache.ts";
import { constraintsOf } from "./placement-requests.ts";
import { assertSupported } from "./supported-features.ts";

const HOSTS_LISTED_MAX = 500;

/** What would be placed where, if it were asked for now: the same planner on the same snapshot, and nothing committed. */
export async function planService(
  ctx: ServiceContext,
  tenantId: string,
  body: PlanRequest,
): Promise<PlanResult> {
  return withTx(ctx.db, async (tx) => {
    const intent =
      body.kind === "create"
        ? await intentOfCreate(tx, tenantId, body.service)
        : await intentOfScale(tx, tenantId, body);
    const cache = new FleetCache({ reportAgeMaxMs: ctx.settings.reportAgeMaxMs });
    const { fleet, policy, nowMs } = await cache.refresh(tx);
    const plan = planPlacements(fleet, intent.requests, { seed: policy.version, nowMs });
    return describePlan(cache, plan, intent);
  });
}

interface Intent {
  name: string;
  requests: PlacementRequest[];
  removed: { id: string; hostId: string | null }[];
}

async function intentOfCreate(
  tx: Queryable,
  tenantId: string,
  body: CreateService,
): Promise<Intent> {
  assertSupported(body);
  // No id that newId gives out: the service does not exist.
  const requests = await requestsFor(
    tx,
    tenantId,
    { ...body, id: "svc_plan" },
    body.template,
    body.replicas,
  );
  return { name: body.name, requests, removed: [] };
}

async function intentOfScale(
  tx: Queryable,
  tenantId: string,
  body: Extract<PlanRequest, { kind: "scale" }>,
): Promise<Intent> {
  const service = await lockServiceByName(tx, tenantId, body.service);
  if (!service) throw notFound("service");
  const template = await findTemplate(tx, service.id, service.revision);
  assert(template, "a service's newest revision exists");
  const live = await countLiveSets(tx, service.id);
  const requests = await requestsFor(
    tx,
    tenantId,
    service,
    template,
    Math.max(0, body.replicas - live),
  );
  const removed =
    body.replicas < live ? await listScaleInVictims(tx, service.id, live - body.replicas) : [];
  return { name: service.name, requests, removed };
}

async function requestsFor(
  tx: Queryable,
  tenantId: string,
  service: Pick<ServiceRow, "id" | "name" | "placement" | "priority">,
  template: SetTemplate,
  count: number,
): Promise<PlacementRequest[]> {
  const names = [...service.placement.antiAffinity, ...service.placement.affinity].map((name) => ({
    tenantId,
    name,
  }));
  const found = await listServiceIds(tx, names);
  const ids = new Map(found.map((other) => [`${tenantId}/${other.name}`, other.id]));
  ids.set(`${tenantId}/${service.name}`, service.id); // it may name itself before it exists
  const constraints = constraintsOf({ tenantId, placement: service.placement }, ids);
  const images = template.containers.map((container) => container.image);
  return Array.from({ length: count }, (_, position) => ({
    setId: `set_plan${String(position).padStart(6, "0")}`,
    serviceId: service.id,
    ask: {
      cpuMillis: template.cpuMillis,
      memoryBytes: template.memoryBytes,
      volumeBytes: template.volume?.sizeBytes ?? 0,
      rootfsBytes: template.rootfsBytes,
    },
    priority: service.priority,
    constraints,
    images,
    avoidHostIds: [],
  }));
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
    `${intent.name}: ${plan.placements.length} sets would be placed, ${plan.rejections.length} would wait, ${intent.removed.length} would be removed.`,
    ...hosts.slice(0, 20).map((host) => `  ${host.hostName}: ${host.sets} (${host.because})`),
    ...(hosts.length > 20 ? [`  and ${hosts.length - 20} more hosts`] : []),
    ...(rejection ? [`  waiting: ${explainRejection(rejection)}`] : []),
  ];
  return {
    policyVersion: plan.policyVersion,
    text: lines.join("\n"),
    hosts: hosts.slice(0, HOSTS_LISTED_MAX),
    placed: plan.placements.length,
    rejected: plan.rejections.length,
    removed: intent.removed.length,
    reasons: rejection ? rejection.reasons.map((reason) => ({ ...reason })) : [],
    hostsTotal: rejection?.hostsTotal ?? byHost.size,
  };
}
