import { expect, test } from "vitest";
import {
  amounts,
  toConstraints,
  hostOf,
  nowMs,
  policyOf,
  requestOf,
} from "../../../test/support/fleet/scheduler-world.ts";
import { createFleet } from "./fleet.ts";
import type { PlacementRequest } from "./model.ts";
import { planPlacements } from "./plan.ts";
import { cpuMsSince, measureReferenceCpuMs } from "../../../test/support/cpu-speed.ts";

/** Services of four sets each, of as many shapes: amounts, constraints and priorities differ. */
function fullServices(count: number): PlacementRequest[] {
  return Array.from({ length: count * 4 }, (_, i) => {
    const service = Math.floor(i / 4);
    const serviceId = `svc_${service}`;
    return requestOf(`set_${String(i).padStart(6, "0")}`, {
      serviceId,
      resources: amounts(50, { cpuMillis: 60 + service }),
      priority: service % 3,
      constraints: toConstraints(
        service % 2 === 0
          ? {}
          : { spread: [{ by: "zone", maxSkew: 1 }], antiAffinity: [serviceId] },
      ),
    });
  });
}

test("explains a thousand services that fit on no host in little time, beside placements", () => {
  const fleet = createFleet(policyOf());
  for (let i = 0; i < 5_000; i++) {
    const allocated = amounts(i % 5 === 0 ? 30 : 95);
    fleet.upsertHost(hostOf(`h${String(i).padStart(4, "0")}`, { zone: `z${i % 3}`, allocated }));
  }
  const small = Array.from({ length: 1_000 }, (_, i) =>
    requestOf(`set_s${i}`, { serviceId: "svc_small", resources: amounts(1), priority: i % 3 }),
  );
  const requests = [...fullServices(1_000), ...small];
  planPlacements(fleet, requests.slice(0, 100), { seed: 1, nowMs }); // creates the columns
  const before = process.cpuUsage();
  const plan = planPlacements(fleet, requests, { seed: 1, nowMs });
  const cpuMs = cpuMsSince(before);
  expect(plan.placements.length).toBeGreaterThanOrEqual(1_000);
  expect(plan.rejections.length).toBeGreaterThan(3_000);
  for (const { reasons } of plan.rejections) {
    const short = reasons.find(({ reason }) => reason === "insufficient-cpu");
    expect(short?.hosts).toBeGreaterThan(4_000);
  }
  // With a walk over all hosts for each shape it was 72 s.
  expect(cpuMs).toBeLessThan(12 * measureReferenceCpuMs());
});
