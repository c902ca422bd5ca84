import { expect, it } from "vitest";
import { silentLog } from "../../lib/log.ts";
import { systemClock } from "../../host-adapters/machine/system-clock.ts";
import { ClockSkew } from "./clock-skew.ts";

const dayMs = 24 * 3_600_000;
const databaseMs = Date.parse("2026-01-15T00:00:00Z");
const databaseTime = new Date(databaseMs).toISOString();

/** The reason after a sync that took this long on a host whose clock differs by `skewMs`. */
function reasonAfterSync(skewMs: number, tookMs: number) {
  let wallMs = databaseMs + skewMs - tookMs;
  const skew = new ClockSkew({ ...systemClock, wallMs: () => wallMs }, silentLog);
  const onAnswer = skew.beginSync();
  wallMs += tookMs;
  onAnswer({ databaseTime });
  return skew.reason;
}

it("a clock that differs by days is reported with its direction", () => {
  expect(reasonAfterSync(-14 * dayMs, 25_000)).toMatchObject({
    code: "clock-wrong",
    text: expect.stringContaining("1209600 s behind"),
  });
  expect(reasonAfterSync(dayMs, 0)).toMatchObject({
    text: expect.stringContaining("86400 s ahead of"),
  });
});

it("a clock that may be right is not reported, however long a sync takes", () => {
  expect(reasonAfterSync(0, 25_000)).toBeUndefined();
  expect(reasonAfterSync(25_000, 25_000)).toBeUndefined();
  expect(reasonAfterSync(70_000, 25_000)).toBeUndefined();
});

it("the reason ends when the clock is right again, and an answer without a time changes nothing", () => {
  let wallMs = databaseMs - dayMs;
  const skew = new ClockSkew({ ...systemClock, wallMs: () => wallMs }, silentLog);
  skew.beginSync()({ databaseTime });
  skew.beginSync()({});
  expect(skew.reason).toBeDefined();
  wallMs = databaseMs;
  skew.beginSync()({ databaseTime });
  expect(skew.reason).toBeUndefined();
});
