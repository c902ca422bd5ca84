import { afterEach, beforeEach, expect, it } from "vitest";
import { VirtualClock } from "../../../test/support/agent/virtual-clock.ts";
import type { Prefetch } from "../../contracts/agent-protocol/prefetch.ts";
import { untilAborted } from "../../lib/async/abort.ts";
import { silentLog } from "../../lib/log.ts";
import { AgentError } from "../base/agent-error.ts";
import type { SetPort } from "../ports/set-port.ts";
import { Prefetches } from "./prefetches.ts";

const imageId = `sha256:${"1".repeat(64)}`;
const digest = `sha256:${"2".repeat(64)}`;
const missing = new AgentError("image-not-found", "none", { phase: "image", temporary: false });
const busy = new AgentError("image-unavailable", "busy", { phase: "image", temporary: true });

let clock: VirtualClock;
let stopping: AbortController;
let prefetches: Prefetches;
let calls: string[];
let prefetch: SetPort["prefetch"];

beforeEach(() => {
  clock = new VirtualClock();
  stopping = new AbortController();
  calls = [];
  prefetch = async () => ({ imageId, digest });
  const port: Pick<SetPort, "prefetch"> = {
    prefetch: (image, signal) => {
      calls.push(image.reference);
      return prefetch(image, signal);
    },
  };
  prefetches = new Prefetches({ port, clock, log: silentLog, onChange: () => undefined });
});
afterEach(() => stopping.abort(new Error("the test ends")));

const wanted = (reference: string, purpose: Prefetch["purpose"] = "pull"): Prefetch => ({
  reference,
  tenant: "food",
  purpose,
});
const update = (...images: Prefetch[]) => prefetches.update(images, stopping.signal);

it("pulls each image once, and reports it until the report arrives", async () => {
  update(wanted("menu:43"));
  update(wanted("menu:43"));
  await clock.pass(100);
  const pulled = { reference: "menu:43", tenant: "food", state: "pulled", imageId, digest };
  expect(prefetches.take()).toEqual([pulled]);
  expect(prefetches.take()).toBeUndefined();
  prefetches.noteLost();
  expect(prefetches.take()).toEqual([pulled]);
  // The API asks again, for example because it was restored.
  update(wanted("menu:43"));
  expect(prefetches.take()).toEqual([pulled]);
  expect(calls).toEqual(["menu:43"]);
});

it("neither pulls nor reports images that it only retains, and calls both kinds needed", async () => {
  update(wanted("menu:43"), wanted("menu", "retain"));
  await clock.pass(100);
  expect(calls).toEqual(["menu:43"]);
  expect(prefetches.take()).toHaveLength(1);
  expect(prefetches.needed).toEqual(["menu:43", "menu:latest"]);
  update();
  expect(prefetches.needed).toEqual([]);
  expect(prefetches.take()).toBeUndefined();
});

it("says nothing to an API that names no images", async () => {
  prefetches.update(undefined, stopping.signal);
  await clock.pass(100);
  expect(prefetches.take()).toBeUndefined();
});

it("tries a temporary failure again with backoff", async () => {
  prefetch = async () => {
    throw busy;
  };
  update(wanted("menu:43"));
  await clock.pass(300_000);
  // After 2, 4, 8, … 60 s.
  expect(calls.length).toBeGreaterThan(6);
  expect(calls.length).toBeLessThan(12);
  expect(prefetches.take()).toMatchObject([
    { state: "failed", isPermanent: false, reason: { code: "image-unavailable" } },
  ]);
  prefetch = async () => ({ imageId });
  await clock.pass(60_000);
  expect(prefetches.take()).toEqual([
    { reference: "menu:43", tenant: "food", state: "pulled", imageId },
  ]);
});

it("tries a permanent failure again only when an answer names the image later", async () => {
  prefetch = async () => {
    throw missing;
  };
  update(wanted("menu:43"));
  await clock.pass(5_000);
  update(wanted("menu:43"));
  await clock.pass(600_000);
  expect(calls).toHaveLength(1);
  expect(prefetches.take()).toMatchObject([{ state: "failed", isPermanent: true }]);
  update(wanted("menu:43"));
  expect(prefetches.take()).toBeUndefined();
  await clock.pass(100);
  expect(calls).toHaveLength(2);
});

it("ends the pull of an image that no answer names any longer", async () => {
  let isAborted = false;
  prefetch = async (_image, signal) => {
    await untilAborted(signal);
    isAborted = true;
    throw signal.reason;
  };
  update(wanted("menu:43"));
  await clock.pass(100);
  update(wanted("menu:44"));
  await clock.pass(100);
  expect(isAborted).toBe(true);
  expect(calls).toEqual(["menu:43", "menu:44"]);
  expect(prefetches.take()).toBeUndefined();
});
