import {
  auditDueServices,
  decideDueServices,
} from "../../control/autoscaling/decide-due-services.ts";
import { watchEventHorizon } from "../../control/events/event-horizon.ts";
import { createRetention } from "../../control/events/retention.ts";
import { replaceLostHosts } from "../../control/hosts/replace-lost-hosts.ts";
import { claimSweepTurn } from "../../control/runtime/sweep-turns.ts";
import { continueResizes } from "../../control/services/resize-round.ts";
import { closeServices } from "../../control/services/close-services.ts";
import { relayOutbox } from "./outbox-relay.ts";
import { PLACEMENT_SWEEP_MS, sweepPlacements } from "./placement-sweep.ts";
import { auditReplicas } from "./replica-audit.ts";
import { startSweep, type SweepOptions } from "./start-sweep.ts";
import type { SweepDeps } from "./sweep-deps.ts";

/**
 * Starts the sweeps of this process. A sweep finds due work in Postgres, so that Redis is only a
 * trigger (I1). Each sweep runs once per interval over all job workers.
 *
 * Sweeps are independent: a fault in one does not stop the others. Inside a sweep, a fault of one
 * item does not stop the other items.
 */
export function startSweeps(deps: SweepDeps): { stop(): Promise<void> } {
  const { ctx, onSweep, onHung } = deps;
  const start = (name: string, everyMs: number, run: SweepOptions["run"]) =>
    startSweep({
      name,
      everyMs,
      run,
      log: ctx.log,
      onRun: onSweep,
      onHung,
      claimTurn: (leaseMs) => claimSweepTurn(ctx, name, leaseMs),
    });
  const retention = createRetention(ctx);
  const stops = [
    start("outbox", 500, (signal) => relayOutbox(deps, signal)),
    start("placement", PLACEMENT_SWEEP_MS, () => sweepPlacements(deps)),
    start("autoscaling", 500, (signal) => decideDueServices(ctx, signal)),
    start("hosts", 2_000, (signal) => replaceLostHosts(ctx, signal)),
    start("moves", 2_000, () => deps.moveSets()),
    start("demands", 30_000, () => auditDueServices(ctx)),
    start("resizes", 2_000, () => continueResizes(ctx)),
    start("closing", 5_000, () => closeServices(ctx)),
    start("replicas", 30_000, (signal) => auditReplicas(ctx, signal)),
    start("horizon", 30_000, () => watchEventHorizon(ctx)),
    start("retention", 60_000, (signal) => retention.run(signal)),
  ];
  return { stop: async () => void (await Promise.all(stops.map((stop) => stop()))) };
}
