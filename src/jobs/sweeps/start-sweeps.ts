import {
  auditDueServices,
  evaluateDueServices,
} from "../../control/autoscaling/evaluate-due-services.ts";
import { watchEventStreamLag } from "../../control/events/event-stream-lag.ts";
import { createRetention } from "../../control/events/retention.ts";
import {
  replaceSetsOfLostHosts,
  watchFleet,
} from "../../control/hosts/replace-sets-of-lost-hosts.ts";
import { Gateways } from "../../control/networks/assign-gateways.ts";
import { ServiceAddresses } from "../../control/networks/assign-service-addresses.ts";
import { endQuarantines } from "../../control/networks/end-quarantines.ts";
import { claimLease } from "../../control/runtime/leases.ts";
import { continueResizes } from "../../control/services/resize-round.ts";
import { closeServices } from "../../control/services/close-services.ts";
import type { DefinedJob } from "../queue/define-job.ts";
import { leadSweeps } from "./lead-sweeps.ts";
import { relayOutbox } from "./outbox-relay.ts";
import { PLACEMENT_SWEEP_MS, sweepPlacements } from "./placement-sweep.ts";
import { auditReplicas } from "./replica-audit.ts";
import { repeatSweep, type Sweep } from "./repeat-sweep.ts";
import type { SweepDeps } from "./sweep-deps.ts";

/** The name of the lease. One job worker holds it and runs all sweeps. */
const LEASE = "sweeps";
const RELAY_MS = 500;

/**
 * Starts the sweeps of this process. A sweep finds due work in Postgres, so that Redis is only a
 * trigger (I1). One job worker runs all sweeps of the installation, except the watch of the fleet,
 * which all of them run.
 *
 * Sweeps are independent: a fault in one does not stop the others. Inside a sweep, a fault of one
 * item does not stop the other items.
 */
export function startSweeps(deps: SweepDeps): { stop(): Promise<void> } {
  const { ctx, onSweep, onHung } = deps;
  const options = { log: ctx.log, onRun: onSweep, onHung };
  const stopLeading = leadSweeps({
    ...options,
    sweeps: listSweeps(deps),
    claimLease: (leaseMs) => claimLease(ctx, LEASE, leaseMs),
  });
  const stopping = new AbortController();
  const watch = { name: "fleet-watch", everyMs: 2_000, run: () => watchFleet(ctx) };
  const watching = repeatSweep(watch, options, stopping.signal);
  const stop = async () => {
    stopping.abort();
    await Promise.all([stopLeading(), watching]);
  };
  return { stop };
}

function listSweeps(deps: SweepDeps): Sweep[] {
  const { ctx } = deps;
  const retention = createRetention(ctx);
  const serviceAddresses = new ServiceAddresses(ctx);
  const gateways = new Gateways(ctx);
  return [
    ...listRelays(deps),
    sweep("placement", PLACEMENT_SWEEP_MS, (signal) => sweepPlacements(deps, signal)),
    sweep("autoscaling", 500, (signal) => evaluateDueServices(ctx, signal)),
    sweep("failover", 2_000, (signal) => replaceSetsOfLostHosts(ctx, signal)),
    sweep("moves", 2_000, (signal) => deps.moveSets(signal)),
    sweep("demand-audit", 30_000, () => auditDueServices(ctx)),
    sweep("resizes", 2_000, (signal) => continueResizes(ctx, signal)),
    sweep("service-deletion", 5_000, () => closeServices(ctx)),
    sweep("replicas", 30_000, (signal) => auditReplicas(ctx, signal)),
    sweep("addresses", 10_000, (signal) => endQuarantines(ctx, signal)),
    sweep("service-addresses", 1_000, (signal) => serviceAddresses.assign(signal)),
    sweep("address-audit", 10_000, (signal) => serviceAddresses.audit(signal)),
    sweep("gateways", 2_000, (signal) => gateways.assign(signal)),
    sweep("event-lag", 30_000, () => watchEventStreamLag(ctx)),
    sweep("retention", 60_000, (signal) => retention.run(signal)),
  ];
}

/**
 * One relay for each shared job, and one for all others. A run of shared work may last as long as
 * the job's timeout, and the rows of other jobs do not wait for it.
 */
function listRelays(deps: SweepDeps): Sweep[] {
  const relay = (name: string, jobs: readonly DefinedJob[]) => {
    const names = jobs.map((job) => job.name);
    return sweep(name, RELAY_MS, (signal) => relayOutbox(deps, names, signal));
  };
  const all = [...deps.registry.values()];
  const shared = all.filter(({ isShared }) => isShared);
  const others = all.filter(({ isShared }) => !isShared);
  return [relay("outbox", others), ...shared.map((job) => relay(`outbox-${job.name}`, [job]))];
}

function sweep(name: string, everyMs: number, run: Sweep["run"]): Sweep {
  return { name, everyMs, run };
}
