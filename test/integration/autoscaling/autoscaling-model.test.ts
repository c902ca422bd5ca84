import fc from "fast-check";
import { afterAll, beforeAll, expect, it } from "vitest";
import type { HookRule } from "../../../src/contracts/api/autoscaling.ts";
import { autoscaleService } from "../../../src/control/autoscaling/autoscale-service.ts";
import { getService } from "../../../src/control/services/get-service.ts";
import { patchService } from "../../../src/control/services/patch-service.ts";
import { releaseDemand } from "../../../src/control/autoscaling/release-demand.ts";
import { evaluateDueServices } from "../../../src/control/autoscaling/evaluate-due-services.ts";
import { scaleService } from "../../../src/control/services/scale-service.ts";
import {
  cpuHigh,
  createAutoscaledService,
  type AutoscaledService,
  deliverAlerts,
  endStabilization,
  unpacedScaling,
} from "../../support/fleet/autoscaled-service.ts";
import { createFleetContext, type FleetContext } from "../../support/fleet/fleet-context.ts";

/**
 * Alerts by key. No rule matches "e". The rule of "c" and "c2" stacks. "b" and "b2" share a rule
 * that does not stack.
 */
const rules: HookRule[] = [
  { match: { alertname: "a" }, want: { replicas: 9 } },
  { match: { alertname: "b" }, want: { factor: 1.5 } },
  { match: { alertname: "c" }, want: { step: 2, stacks: true } },
];
const ruleOf = (key: string) => key[0] ?? "";

interface Run {
  key: string;
  start: number;
  state: "firing" | "resolved" | "released";
}

/** The rules that decide the size of a service, in their simplest form. */
class Model {
  replicas = 3;
  min = 1;
  max = 12;
  runs: Run[] = [];

  /** The keys of a rule that the service holds demands of. */
  held(rule: string): Set<string> {
    const held = this.runs.filter((run) => run.state !== "released" && ruleOf(run.key) === rule);
    return new Set(held.map((run) => run.key));
  }

  base(): number {
    return this.clamp(Math.max(this.replicas, this.held("a").size > 0 ? 9 : 0));
  }

  desired(): number {
    const base = this.base();
    const factor = this.held("b").size > 0 ? Math.ceil(base * 1.5) : 0;
    return this.clamp(Math.max(base, factor, base + 2 * this.held("c").size));
  }

  clamp(count: number): number {
    return Math.min(Math.max(count, this.min), this.max);
  }

  find(key: string, start: number): Run | undefined {
    return this.runs.find((run) => run.key === key && run.start === start);
  }

  begin(key: string, start: number, state: Run["state"]): void {
    if (ruleOf(key) === "e" || this.find(key, start)) return;
    this.runs.push({ key, start, state });
  }
}

interface Real {
  fleet: FleetContext;
  menu: AutoscaledService;
}

type Step = fc.AsyncCommand<Model, Real>;

/** A step that is always possible. After it the stored demands equal those of the model. */
function step(
  text: string,
  run: (model: Model, real: Real) => Promise<void>,
  check: (model: Readonly<Model>) => boolean = () => true,
): Step {
  return {
    check,
    run: async (model, real) => {
      await run(model, real);
      const { items } = await real.menu.demands();
      const recorded = items.map((one) => `${one.key}@${Date.parse(one.startedAt)} ${one.state}`);
      const expected = model.runs.map((one) => `${one.key}@${one.start} ${one.state}`);
      expect(recorded.toSorted()).toEqual(expected.toSorted());
    },
    toString: () => text,
  };
}

const deliver = (
  { fleet, menu }: Real,
  status: "firing" | "resolved",
  key: string,
  start: number,
) =>
  deliverAlerts(fleet.ctx, menu.hookId, [
    cpuHigh({
      key,
      status,
      startsAt: new Date(start).toISOString(),
      labels: { alertname: ruleOf(key), instance: key },
    }),
  ]);

const fire = (key: string, start: number) =>
  step(`fire(${key}, ${start})`, async (model, real) => {
    await deliver(real, "firing", key, start);
    model.begin(key, start, "firing");
  });

const end = (key: string, start: number) =>
  step(`end(${key}, ${start})`, async (model, real) => {
    await deliver(real, "resolved", key, start);
    const run = model.find(key, start);
    if (!run) model.begin(key, start, "released");
    else if (run.state === "firing") run.state = "resolved";
  });

const decide = () =>
  step("decide()", async (model, { fleet, menu }) => {
    await autoscaleService(fleet.ctx, menu.serviceId);
    expect([await menu.desired(), await menu.setsCount()]).toEqual([
      model.desired(),
      model.desired(),
    ]);
    const held = (await menu.demands()).items.filter((one) => one.state !== "released");
    expect(held.map((one) => one.baseReplicas)).toEqual(held.map(() => model.base()));
  });

const passTime = () =>
  step("passTime()", async (model, { fleet, menu }) => {
    await endStabilization(fleet.ctx, menu.serviceId);
    await evaluateDueServices(fleet.ctx);
    for (const run of model.runs) if (run.state === "resolved") run.state = "released";
  });

const release = (pick: number) =>
  step(
    `release(${pick})`,
    async (model, { fleet, menu }) => {
      const run = model.runs[pick % model.runs.length];
      const { items } = await menu.demands();
      const demand = items.find(
        (one) => one.key === run?.key && Date.parse(one.startedAt) === run.start,
      );
      await releaseDemand(fleet.ctx, fleet.tenantId, menu.name, demand?.id ?? "");
      if (run) run.state = "released";
    },
    (model) => model.runs.length > 0,
  );

const scale = (replicas: number) =>
  step(`scale(${replicas})`, async (model, { fleet, menu }) => {
    const isAllowed = replicas >= model.min && replicas <= model.max;
    const scaled = scaleService(fleet.ctx, fleet.tenantId, menu.name, { replicas }, undefined);
    if (!isAllowed) return expect(scaled).rejects.toMatchObject({ code: "invalid-request" });
    await scaled;
    model.replicas = replicas;
    expect(await menu.desired()).toBe(model.desired());
  });

const bound = (min: number, max: number) =>
  step(`bound(${min}, ${max})`, async (model, { fleet, menu }) => {
    const { generation } = await getService(fleet.ctx, fleet.tenantId, menu.name);
    // A patch without the pace would set the default one, which the model does not have.
    const patch = { autoscale: { min, max, metrics: [], ...unpacedScaling } };
    const patched = patchService(fleet.ctx, fleet.tenantId, menu.name, generation, patch);
    const isAllowed = model.replicas >= min && model.replicas <= max;
    if (!isAllowed) return expect(patched).rejects.toMatchObject({ code: "invalid-request" });
    await patched;
    [model.min, model.max] = [min, max];
    expect(await menu.desired()).toBe(model.desired());
  });

let fleet: FleetContext;
beforeAll(async () => {
  fleet = await createFleetContext();
});
afterAll(() => fleet.close());

it(
  "alerts, users, time and decisions in any order lead to the size that a simple model computes",
  { timeout: 300_000 },
  async () => {
    const key = fc.constantFrom("a", "b", "b2", "c", "c2", "e");
    const start = fc.constantFrom(1_000, 2_000, 3_000);
    const steps = [
      fc.tuple(key, start).map(([k, at]) => fire(k, at)),
      fc.tuple(key, start).map(([k, at]) => fire(k, at)),
      fc.tuple(key, start).map(([k, at]) => end(k, at)),
      fc.constant(decide()),
      fc.constant(passTime()),
      fc.nat(20).map(release),
      fc.integer({ min: 0, max: 14 }).map(scale),
      fc.tuple(fc.nat(4), fc.integer({ min: 4, max: 14 })).map(([min, max]) => bound(min, max)),
    ];
    let serviceCount = 0;
    await fc.assert(
      fc.asyncProperty(fc.commands(steps, { maxCommands: 40 }), async (commands) => {
        const menu = await createAutoscaledService(fleet, `model-${++serviceCount}`, {
          replicas: 3,
          min: 1,
          max: 12,
          rules,
        });
        await fc.asyncModelRun(
          () => ({ model: new Model(), real: { fleet, menu } }),
          [...commands, decide()],
        );
      }),
      { numRuns: 40 },
    );
    expect(serviceCount).toBe(40);
  },
);
