import { describe, expect, it } from "vitest";
import { z } from "zod";
import { jobPayloads, queueNames } from "../contracts/jobs.ts";
import { toJobId } from "./queue/bullmq-job-queue.ts";
import type { JobDeps } from "./queue/define-job.ts";
import { computeConcurrency, createRegistry, jobRegistry } from "./registry.ts";

const all = [...jobRegistry.values()];

describe("the registry", () => {
  it("has exactly one definition for each job of the contract", () => {
    expect([...jobRegistry.keys()].sort()).toEqual(Object.keys(jobPayloads).sort());
  });

  it("rejects a missing job, a duplicate, another queue and another payload", () => {
    const [first, ...others] = all;
    if (!first) throw new Error("The registry is empty.");
    expect(() => createRegistry(others)).toThrow(`without a definition: ${first.name}`);
    expect(() => createRegistry([...all, first])).toThrow("defined twice");
    const queue = queueNames.find((name) => name !== first.queue) ?? "lifecycle";
    expect(() => createRegistry([{ ...first, queue }, ...others])).toThrow("a different queue");
    const payload = z.object({ serviceId: z.string() });
    expect(() => createRegistry([{ ...first, payload }, ...others])).toThrow("payload of its own");
  });

  it("has a concurrency of at least one for every queue", () => {
    for (const queue of queueNames)
      expect(computeConcurrency(jobRegistry, queue)).toBeGreaterThan(0);
  });

  it("bounds every job in attempts, delay and time", () => {
    for (const job of all) {
      expect(job.attempts).toBeGreaterThan(1);
      expect(job.attempts).toBeLessThanOrEqual(10);
      expect(job.backoffMs * 2 ** job.attempts).toBeLessThan(60_000);
      expect(job.timeoutMs).toBeLessThanOrEqual(120_000);
    }
  });
});

describe("a payload", () => {
  const deps = {} as JobDeps; // an invalid payload reaches no handler
  it.each([
    ["place-sets", {}],
    ["place-sets", { cause: 1 }],
    ["reconcile-service", { serviceId: "svc_1", generation: 1 }],
    ["reconcile-service", { generation: -1 }],
    ["autoscale-service", null],
    ["autoscale-service", "text"],
  ] as const)("an invalid payload of %s fails without a retry: %j", (name, payload) => {
    expect(() => jobRegistry.get(name)?.run(deps, payload)).toThrow(
      expect.objectContaining({ code: "invalid-request", retryable: false }),
    );
  });

  it("a payload of a newer API may contain unknown members", async () => {
    const job = jobRegistry.get("place-sets");
    const placed = { placed: 2, rejected: 0, conflicts: 0, batches: 1 };
    const outcome = await job?.run(
      { ...deps, placeSets: async () => placed },
      {
        cause: "test",
        since: 7,
      },
    );
    expect(outcome).toMatchObject({ outcome: "done", placed: 2 });
  });
});

it("creates job ids without colons, which differ for each outbox row", () => {
  expect(toJobId("place:svc_a:gen1", undefined)).toBe("place.svc_a.gen1");
  expect(toJobId("place:svc_a:gen1", 7)).not.toBe(toJobId("place:svc_a:gen1", 8));
});
