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
 * Starts the sweeps of this process. They make Redis a mere trigger (I1): they find in Postgres what should be done and
 * is not. For the whole fleet each sweep runs once per interval, however many job workers there are.
 *
 * Each sweep is on its own: a fault of one stops no other, and inside a sweep the fault of one item stops no other item.
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
