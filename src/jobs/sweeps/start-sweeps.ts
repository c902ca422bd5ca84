import {
  auditDueServices,
  decideDueServices,
} from "../../control/autoscaling/decide-due-services.ts";
import { createRetention } from "../../control/events/retention.ts";
import { replaceLostHosts } from "../../control/hosts/replace-lost-hosts.ts";
import { claimSweepTurn } from "../../control/runtime/outbox.ts";
import { closeServices } from "../../control/services/close-services.ts";
import { relayOutbox } from "./outbox-relay.ts";
import { PLACEMENT_SWEEP_MS, sweepPlacements } from "./placement-sweep.ts";
import { auditReplicas } from "./replica-audit.ts";
import { startSweep } from "./start-sweep.ts";
import type { SweepDeps } from "./sweep-deps.ts";

/**
 * Starts the sweeps of this process. A sweep finds due work in Postgres, so that Redis is only a
 * trigger (I1). Each sweep runs once per interval over all job workers.
 *
 * Sweeps are independent: a fault in one does not stop the others. Inside a sweep, a fault of one
 * item does not stop the other items.
 */
export function startSweeps(deps: SweepDeps): { stop(): Promise<void> } {
  const { ctx, onSweep } = deps;
  const start = (name: string, everyMs: number, run: () => Promise<unknown>) =>
    startSweep({
      name,
      everyMs,
      run,
      log: ctx.log,
      onRun: onSweep,
      claimTurn: () => claimSweepTurn(ctx, name, everyMs * 0.8),
    });
  const retention = createRetention(ctx);
  const stops = [
    start("outbox", 500, () => relayOutbox(deps)),
    start("placement", PLACEMENT_SWEEP_MS, () => sweepPlacements(deps)),
    start("autoscaling", 500, () => decideDueServices(ctx)),
    start("hosts", 2_000, () => replaceLostHosts(ctx)),
    start("moves", 2_000, () => deps.moveSets()),
    start("demands", 30_000, () => auditDueServices(ctx)),
    start("closing", 5_000, () => closeServices(ctx)),
    start("replicas", 30_000, () => auditReplicas(ctx)),
    start("retention", 60_000, () => retention.run()),
  ];
  return { stop: async () => void (await Promise.all(stops.map((stop) => stop()))) };
}
