import { expect, it } from "vitest";
import { VirtualClock } from "../../../test/support/agent/virtual-clock.ts";
import { silentLog } from "../../lib/log.ts";
import { ControlPlaneError } from "../ports/control-plane.ts";
import { ReportBounds } from "./report-bounds.ts";

const tooLong = new ControlPlaneError("too long", { status: 413 });
const sets = { chars: 100_000, hasLists: false, hasUsage: false };

it("a report that is too long is divided by its parts first, then by its sets, with a bound", () => {
  const bounds = new ReportBounds(new VirtualClock(), silentLog);
  bounds.noteFailed(new ControlPlaneError("busy", { status: 429 }), sets);
  expect(bounds).toMatchObject({ isOnePart: false, charsMax: 2 ** 20 });
  bounds.noteFailed(tooLong, { ...sets, hasLists: true });
  expect(bounds).toMatchObject({ isOnePart: true, charsMax: 2 ** 20, mayHaveLists: true });
  bounds.noteFailed(tooLong, sets);
  expect(bounds.charsMax).toBe(50_000);
  for (let times = 0; times < 10; times++) bounds.noteFailed(tooLong, { ...sets, chars: 900 });
  expect(bounds.charsMax).toBe(4_096);
});

it("a list that is too long even alone waits for ten minutes, and delays no set", async () => {
  const clock = new VirtualClock();
  const bounds = new ReportBounds(clock, silentLog);
  const list = { chars: 0, hasLists: true, hasUsage: false };
  bounds.noteFailed(tooLong, list);
  expect(bounds.mayHaveLists).toBe(true);
  bounds.noteFailed(tooLong, list);
  expect(bounds.mayHaveLists).toBe(false);
  await clock.pass(600_000);
  expect(bounds.mayHaveLists).toBe(true);
});
