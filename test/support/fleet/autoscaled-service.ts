import { sql } from "drizzle-orm";
import type { Alert } from "../../../src/contracts/api/alert-deliveries.ts";
import type { HookRule } from "../../../src/contracts/api/autoscaling.ts";
import type { AutoscaleSpec } from "../../../src/contracts/api/services.ts";
import { queryRows } from "../../../src/db/queries/runtime/query.ts";
import { autoscaleService } from "../../../src/control/autoscaling/autoscale-service.ts";
import {
  type HookReceipt,
  receiveAlerts,
} from "../../../src/control/autoscaling/receive-alerts.ts";
import type { ControlContext } from "../../../src/control/runtime/context.ts";
import { createHook } from "../../../src/control/autoscaling/create-hook.ts";
import { createService } from "../../../src/control/services/create-service.ts";
import { getService } from "../../../src/control/services/get-service.ts";
import { listDecisions } from "../../../src/control/autoscaling/list-decisions.ts";
import { listDemands } from "../../../src/control/autoscaling/list-demands.ts";
import type { FleetContext } from "./fleet-context.ts";
import { serviceBody } from "./fleet-context.ts";

/** A service with a hook, and the operations that tests of autoscaling need. */
export interface AutoscaledService {
  name: string;
  serviceId: string;
  hookId: string;
  token: string;
  /** Runs the autoscale jobs that were enqueued since the last call, like a job worker. */
  runJobs(): Promise<void>;
  desired(): Promise<number>;
  /** Live sets. */
  setsCount(): Promise<number>;
  demands(): ReturnType<typeof listDemands>;
  decisions(): ReturnType<typeof listDecisions>;
}

export interface AutoscaledServiceOptions {
  replicas?: number;
  min?: number;
  max?: number;
  rules?: HookRule[];
  stabilizationSeconds?: number;
  /**
   * By default one step may be of any size and takes effect without a wait, so that a test sees
   * each decision separately.
   */
  scaleIn?: AutoscaleSpec["scaleIn"];
  scaleOut?: AutoscaleSpec["scaleOut"];
}

/** Scales to any size in one step, without a pause. */
export const unpacedScaling = {
  scaleIn: { step: 20_000, everySeconds: 0 },
  scaleOut: { cooldownSeconds: 0 },
};

export async function createAutoscaledService(
  fleet: FleetContext,
  name: string,
  options: AutoscaledServiceOptions = {},
): Promise<AutoscaledService> {
  const { ctx, tenantId } = fleet;
  const autoscale = {
    min: options.min ?? 1,
    max: options.max ?? 20,
    scaleIn: options.scaleIn ?? unpacedScaling.scaleIn,
    scaleOut: options.scaleOut ?? unpacedScaling.scaleOut,
  };
  const body = serviceBody(name, { replicas: options.replicas ?? 3, autoscale });
  const { service } = await createService(ctx, tenantId, body);
  const { hook, token } = await createHook(ctx, tenantId, name, {
    name: "web-alerts",
    rules: options.rules ?? [{ match: { alertname: "CpuHigh" }, want: { step: 2 } }],
    stabilizationSeconds: options.stabilizationSeconds ?? 300,
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

/** Delivers alerts like a sender that omits none. */
export function deliverAlerts(
  ctx: ControlContext,
  hookId: string,
  alerts: readonly Alert[],
): Promise<HookReceipt> {
  return receiveAlerts(ctx, hookId, { alerts: [...alerts], truncatedAlerts: 0, errors: [] });
}

/** An alert that the default rule matches. */
export function cpuHigh(more: Partial<Alert> = {}): Alert {
  return {
    key: "9f2a61c7d0b1e4aa",
    status: "firing",
    startsAt: "2026-01-05T03:00:00Z",
    labels: { alertname: "CpuHigh", app: "menu" },
    ...more,
  };
}

/**
 * Moves the end of every stabilization window into the past, so that tests do not wait for minutes.
 */
export async function endStabilization(ctx: ControlContext, serviceId: string): Promise<void> {
  await ctx.db.execute(sql`update demands set release_at = now() - interval '1 second'
    where service_id = ${serviceId} and state = 'resolved'`);
  await makeDue(ctx, serviceId);
}

/** Makes a service due now, instead of at the time that its last decision computed. */
export async function makeDue(ctx: ControlContext, serviceId: string): Promise<void> {
  await ctx.db.execute(
    sql`update autoscale_states set due_at = now() where service_id = ${serviceId}`,
  );
}

/** Shifts the times of a service's decisions into the past. */
export async function passSeconds(
  ctx: ControlContext,
  serviceId: string,
  seconds: number,
): Promise<void> {
  await ctx.db
    .execute(sql`update autoscale_states set due_at = due_at - make_interval(secs => ${seconds}::float8),
      scaled_out_at = scaled_out_at - make_interval(secs => ${seconds}::float8),
      scaled_in_at = scaled_in_at - make_interval(secs => ${seconds}::float8),
      steps_taken = coalesce((select jsonb_object_agg(key, jsonb_set(value, '{sinceMs}',
        coalesce(to_jsonb((value->>'sinceMs')::float8 - ${seconds * 1000}::float8), 'null'))) from jsonb_each(steps_taken)), '{}')
    where service_id = ${serviceId}`);
}

async function runAutoscaleJobs(fleet: FleetContext, ctx: ControlContext): Promise<void> {
  const jobs = fleet.enqueued.filter((job) => job.name === "autoscale-service");
  fleet.enqueued.length = 0;
  for (const job of jobs) await autoscaleService(ctx, String(job.payload["serviceId"]));
}

async function countSets(ctx: ControlContext, serviceId: string): Promise<number> {
  const rows = await queryRows<{ count: number }>(
    ctx.db,
    sql`select count(*)::int as count from sets
        where service_id = ${serviceId} and deleted_at is null and desired <> 'deleted'`,
  );
  return rows[0]?.count ?? 0;
}
