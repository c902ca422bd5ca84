import { sql } from "drizzle-orm";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { JobRequest } from "../../../src/contracts/jobs.ts";
import { createMover } from "../../../src/control/operations/move-sets.ts";
import { createPlacer } from "../../../src/control/placement/place-pending-sets.ts";
import { createService } from "../../../src/control/services/create-service.ts";
import { queryRows } from "../../../src/db/queries/runtime/query.ts";
import { lockServiceById } from "../../../src/db/queries/services/write-services.ts";
import { withTx } from "../../../src/db/transaction.ts";
import { computeConcurrency, jobRegistry } from "../../../src/jobs/registry.ts";
import { serviceBody } from "../../support/fleet/fleet-context.ts";
import { type JobPlane, openJobPlane } from "../../support/fleet/job-plane.ts";
import { waitUntil } from "../../support/wait-until.ts";

let plane: JobPlane;
beforeEach(async () => {
  // Longer than this test waits: a statement that waits for a lock does not end by its timeout.
  plane = await openJobPlane({ statementTimeoutMs: 180_000 });
});
afterEach(() => plane.close());

/** Locks a service in a transaction of its own until the returned function is called. */
async function holdLock(serviceId: string): Promise<() => Promise<void>> {
  let release = (): void => undefined;
  const released = new Promise<void>((resolve) => (release = resolve));
  let held: Promise<void> = Promise.resolve();
  await new Promise<void>((resolve, reject) => {
    held = withTx(plane.ctx.db, async (tx) => {
      await lockServiceById(tx, serviceId);
      resolve();
      await released;
    });
    held.catch(reject);
  });
  return async () => {
    release();
    await held;
  };
}

async function createWithoutSets(name: string) {
  const { service } = await createService(plane.ctx, plane.tenantId, serviceBody(name));
  await plane.ctx.db.execute(sql`delete from sets where service_id = ${service.id}`);
  return service;
}

const countSets = async (serviceId: string) =>
  (
    await queryRows<{ id: string }>(
      plane.ctx.db,
      sql`select id from sets where service_id = ${serviceId}`,
    )
  ).length;

test.each(["reconcile-service", "autoscale-service", "resize-service"] as const)(
  "%s stops waiting for a locked service, and runs its work once the lock is free",
  async (name) => {
    const { id: serviceId, generation } = await createWithoutSets("web");
    await plane.ctx.db.execute(
      sql`insert into service_resizes (service_id, cpu_millis, may_move) values (${serviceId}, 2000, false)`,
    );
    const deps = {
      ctx: plane.ctx,
      placeSets: () => createPlacer(plane.ctx).placeSets(),
      moveSets: () => createMover(plane.ctx).moveSets(),
    };
    const run = () => jobRegistry.get(name)?.run(deps, { serviceId, generation });
    const release = await holdLock(serviceId);
    await expect(run()).rejects.toMatchObject({ code: "overloaded", retryable: true });
    await release();
    await expect(run()).resolves.toMatchObject({ serviceId });
  },
);

test("jobs of a locked service do not occupy all slots of a job worker", async () => {
  const locked = await createWithoutSets("locked");
  const other = await createWithoutSets("other");
  const release = await holdLock(locked.id);
  const reconcile = ({ id, generation }: typeof locked, number: number): JobRequest => ({
    name: "reconcile-service",
    jobId: `test:${id}:${number}`,
    payload: { serviceId: id, generation },
  });
  const slots = computeConcurrency(jobRegistry, "lifecycle");
  const jobs = Array.from({ length: slots }, (_, number) => reconcile(locked, number));
  await plane.jobQueue.enqueue([...jobs, reconcile(other, 0)], []);
  plane.startJobs();
  await waitUntil("the other service has its set", async () => (await countSets(other.id)) === 1);
  expect(await countSets(locked.id)).toBe(0);
  expect(plane.attempts.filter(({ outcome }) => outcome === "failed")).toEqual([]);
  await release();
  await waitUntil("the locked service has its set", async () => (await countSets(locked.id)) === 1);
});
