import fc from "fast-check";
import { afterAll, beforeAll, expect, it } from "vitest";
import type { HookRule } from "../../../src/contracts/api/autoscaling.ts";
import { autoscaleService } from "../../../src/control/autoscaling/autoscale-service.ts";
import { getService } from "../../../src/control/services/get-service.ts";
import { patchService } from "../../../src/control/services/patch-service.ts";
import { receiveAlerts } from "../../../src/control/autoscaling/receive-alerts.ts";
import { releaseDemand } from "../../../src/control/autoscaling/release-demand.ts";
import { releaseDueDemands } from "../../../src/control/autoscaling/release-due-demands.ts";
import { scaleService } from "../../../src/control/services/scale-service.ts";
import {
  cpuHigh,
  createElasticService,
  type ElasticService,
  endStabilisation,
} from "../../support/fleet/elastic-service.ts";
import { createFleetContext, type FleetContext } from "../../support/fleet/fleet-context.ts";

/** Alerts by key; of "d" no rule wants to know. */
const wants: Record<string, (base: number) => number> = {
  a: (base) => base + 2,
  b: (base) => Math.ceil(base * 1.5),
  c: () => 9,
};
const rules: HookRule[] = [
  { match: { alertname: "a" }, want: { step: 2 } },
  { match: { alertname: "b" }, want: { factor: 1.5 } },
  { match: { alertname: "c" }, want: { replicas: 9 } },
];

interface Run {
  key: string;
  start: number;
  state: "firing" | "resolved" | "released";
  base: number;
  wanted: number;
}

/** Everything that decides the size of a service, in its simplest form. */
class Model {
  replicas = 3;
  min = 1;
  max = 12;
  runs: Run[] = [];

  desired(): number {
    const held = this.runs.filter((run) => run.state !== "released").map((run) => run.wanted);
    return Math.min(Math.max(this.replicas, ...held, this.min), this.max);
  }

  find(key: string, start: number): Run | undefined {
    return this.runs.find((run) => run.key === key && run.start === start);
  }

  begin(key: string, start: number, state: Run["state"]): void {
    const want = wants[key];
    if (!want || this.find(key, start)) return;
    const underWay = state === "firing" ? this.firing(key) : undefined;
    const base = underWay?.base ?? this.desired();
    this.runs.push({ key, start, state, base, wanted: want(base) });
  }

  firing(key: string): Run | undefined {
    const runs = this.runs.filter((run) => run.key === key && run.state === "firing");
    return runs.toSorted((x, y) => x.start - y.start)[0];
  }
}

interface Real {
  fleet: FleetContext;
  menu: ElasticService;
}

type Step = fc.AsyncCommand<Model, Real>;

/** A step that is always possible, after which what is on record is compared with the model. */
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
      const recorded = items.map(
        (one) =>
          `${one.key}@${Date.parse(one.startedAt)} ${one.state} ${one.baseReplicas}->${one.wantedReplicas}`,
      );
      const expected = model.runs.map(
        (one) => `${one.key}@${one.start} ${one.state} ${one.base}->${one.wanted}`,
      );
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
  receiveAlerts(fleet.ctx, menu.hookId, [
    cpuHigh({ key, status, startsAt: new Date(start).toISOString(), labels: { alertname: key } }),
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
  });

const passTime = () =>
  step("passTime()", async (model, { fleet, menu }) => {
    await endStabilisation(fleet.ctx, menu.serviceId);
    await releaseDueDemands(fleet.ctx);
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
    const patch = { autoscale: { min, max, metrics: [] } };
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
  "alerts, people, time and decisions in any order leave what a simple model says",
  { timeout: 300_000 },
  async () => {
    const key = fc.constantFrom("a", "b", "c", "d");
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
        const menu = await createElasticService(fleet, `model-${++serviceCount}`, {
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
