import { sql } from "drizzle-orm";
import type { Alert, HookRule } from "../../../src/contracts/api/autoscaling.ts";
import { rowsOf } from "../../../src/db/queries/runtime/query.ts";
import { autoscaleService } from "../../../src/control/autoscaling/autoscale-service.ts";
import type { ControlContext } from "../../../src/control/runtime/context.ts";
import { createHook } from "../../../src/control/autoscaling/create-hook.ts";
import { createService } from "../../../src/control/services/create-service.ts";
import { getService } from "../../../src/control/services/get-service.ts";
import { listDecisions } from "../../../src/control/autoscaling/list-decisions.ts";
import { listDemands } from "../../../src/control/autoscaling/list-demands.ts";
import type { FleetContext } from "./fleet-context.ts";
import { serviceBody } from "./fleet-context.ts";

/** A service with a hook, and the few things that tests of elasticity look at. */
export interface ElasticService {
  name: string;
  serviceId: string;
  hookId: string;
  token: string;
  /** Carries out the autoscale jobs that were rung since, as a job worker would. */
  runJobs(): Promise<void>;
  desired(): Promise<number>;
  /** Sets that live. */
  setsCount(): Promise<number>;
  demands(): ReturnType<typeof listDemands>;
  decisions(): ReturnType<typeof listDecisions>;
}

export interface ElasticOptions {
  replicas?: number;
  min?: number;
  max?: number;
  rules?: HookRule[];
  stabilisationSeconds?: number;
}

export async function createElasticService(
  fleet: FleetContext,
  name: string,
  options: ElasticOptions = {},
): Promise<ElasticService> {
  const { ctx, tenantId } = fleet;
  const autoscale = { min: options.min ?? 1, max: options.max ?? 20 };
  const body = serviceBody(name, { replicas: options.replicas ?? 3, autoscale });
  const { service } = await createService(ctx, tenantId, body);
  const { hook, token } = await createHook(ctx, tenantId, name, {
    name: "web-alerts",
    rules: options.rules ?? [{ match: { alertname: "CpuHigh" }, want: { step: 2 } }],
    stabilisationSeconds: options.stabilisationSeconds ?? 300,
  });
  const page = { limit: 500 };
  return {
    name,
    serviceId: service.id,
    hookId: hook.id,
    token,
    runJobs: () => runAutoscaleJobs(fleet, ctx),
    desired: async () => (await getService(ctx, tenantId, name)).desiredReplicas,
    setsCount: () => countSets(ctx, service.id),
    demands: () => listDemands(ctx, tenantId, name, page),
    decisions: () => listDecisions(ctx, tenantId, { ...page, service: name }),
  };
}

/** An alert that the default rule is for. */
export function cpuHigh(more: Partial<Alert> = {}): Alert {
  return {
    key: "9f2a61c7d0b1e4aa",
    status: "firing",
    startsAt: "2026-01-05T03:00:00Z",
    labels: { alertname: "CpuHigh", app: "menu" },
    ...more,
  };
}

/** Moves the end of every stabilisation time into the past: tests do not wait for minutes. */
export async function endStabilisation(ctx: ControlContext, serviceId: string): Promise<void> {
  await ctx.db.execute(sql`update demands set release_at = now() - interval '1 second'
    where service_id = ${serviceId} and state = 'resolved'`);
}

async function runAutoscaleJobs(fleet: FleetContext, ctx: ControlContext): Promise<void> {
  const jobs = fleet.rings.filter((ring) => ring.name === "autoscale-service");
  fleet.rings.length = 0;
  for (const job of jobs) await autoscaleService(ctx, String(job.payload["serviceId"]));
}

async function countSets(ctx: ControlContext, serviceId: string): Promise<number> {
  const rows = await rowsOf<{ count: number }>(
    ctx.db,
    sql`select count(*)::int as count from sets
        where service_id = ${serviceId} and deleted_at is null and desired <> 'deleted'`,
  );
  return rows[0]?.count ?? 0;
}
