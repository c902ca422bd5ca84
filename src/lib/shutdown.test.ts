import { expect, it } from "vitest";
import { silentLog } from "./log.ts";
import { Shutdown } from "./shutdown.ts";

it("closes in reverse order, one step after another", async () => {
  const order: string[] = [];
  const shutdown = new Shutdown({ log: silentLog, deadlineMs: 5_000 });
  for (const name of ["database", "redis", "http"]) {
    shutdown.add(name, async () => {
      order.push(`${name} begins`);
      await new Promise((resolve) => setImmediate(resolve));
      order.push(`${name} ends`);
    });
  }
  expect(shutdown.hasBegun).toBe(false);
  expect(await shutdown.run()).toBe(true);
  expect(shutdown.hasBegun).toBe(true);
  expect(order).toEqual([
    "http begins",
    "http ends",
    "redis begins",
    "redis ends",
    "database begins",
    "database ends",
  ]);
});

it("continues after a step that throws or rejects, and reports an unclean shutdown", async () => {
  const closed: string[] = [];
  const shutdown = new Shutdown({ log: silentLog, deadlineMs: 5_000 });
  shutdown.add("first", async () => closed.push("first"));
  shutdown.add("throws", () => {
    throw new Error("at once");
  });
  shutdown.add("rejects", () => Promise.reject(new Error("later")));
  expect(await shutdown.run()).toBe(false);
  expect(closed).toEqual(["first"]);
});

it("stops waiting for a step that hangs, and still runs the others", async () => {
  const closed: string[] = [];
  const shutdown = new Shutdown({ log: silentLog, deadlineMs: 60 });
  shutdown.add("first", async () => closed.push("first"));
  shutdown.add("hangs", () => new Promise(() => undefined));
  const startedAtMs = performance.now();
  expect(await shutdown.run()).toBe(false);
  expect(performance.now() - startedAtMs).toBeLessThan(30_000);
  expect(closed).toEqual(["first"]);
});

it("runs once for any number of calls", async () => {
  let count = 0;
  const shutdown = new Shutdown({ log: silentLog, deadlineMs: 5_000 });
  shutdown.add("counts", async () => count++);
  await Promise.all([shutdown.run(), shutdown.run()]);
  await shutdown.run();
  expect(count).toBe(1);
});
