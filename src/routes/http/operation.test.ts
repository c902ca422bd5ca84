import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { silentLog } from "../../lib/log.ts";
import { defaultControlSettings, type ControlContext } from "../../control/runtime/context.ts";
import { CallerTokenCache } from "../../control/tenancy/token-cache.ts";
import { createApp } from "../app.ts";

beforeEach(() => void vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] }));
afterEach(() => void vi.useRealTimers());

const never = new Promise<never>(() => undefined);
/** A database that accepts statements and never answers, like a machine that hangs. */
const hangingDb = new Proxy({}, { get: () => () => never }) as ControlContext["db"];

function api() {
  const ctx = {
    db: hangingDb,
    tokenCache: new CallerTokenCache(),
    log: silentLog,
    settings: defaultControlSettings,
  } as unknown as ControlContext;
  return createApp(ctx, { version: "0.0.0-test" });
}

it.each([
  ["an operation", "GET", "/v1/services"],
  ["a wait, which may take longer after it", "GET", "/v1/services/web/wait"],
  ["a stream", "GET", "/v1/events"],
  ["a hook", "POST", "/hooks/generic/hook_00000000000000000000000000"],
])("bounds the authentication of %s by the time limit", async (_name, method, path) => {
  const headers = { authorization: `Bearer brt_${"a".repeat(43)}`, accept: "text/event-stream" };
  const answer = Promise.resolve(api().request(path, { method, headers }));
  await vi.advanceTimersByTimeAsync(14_000);
  expect(await Promise.race([answer, Promise.resolve("none yet")])).toBe("none yet");
  await vi.advanceTimersByTimeAsync(2_000);
  const response = await answer;
  expect(response.status).toBe(503);
  expect(response.headers.get("retry-after")).toBe("1");
});
