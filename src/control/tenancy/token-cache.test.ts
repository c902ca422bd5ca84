import { describe, expect, it } from "vitest";
import type { Caller } from "../../contracts/api/caller.ts";
import { CallerTokenCache } from "./token-cache.ts";

const user: Caller = {
  tokenId: "tok_1",
  role: "tenant",
  tenantId: "ten_1",
  hookId: null,
  pool: null,
};

function setUp(caller: Caller | undefined = user) {
  let nowMs = 1_000;
  const known = new CallerTokenCache(() => nowMs);
  return {
    known,
    pass: (ms: number) => (nowMs += ms),
    remember: () => known.remember("hash", async () => caller),
  };
}

describe("the token cache", () => {
  it("has a caller for two seconds after the start of its look-up", async () => {
    const { known, pass, remember } = setUp();
    expect(known.find("hash")).toBeUndefined();
    expect(await remember()).toBe(user);
    pass(1_999);
    expect(known.find("hash")).toBe(user);
    expect(known.find("another")).toBeUndefined();
    pass(1);
    expect(known.find("hash")).toBeUndefined();
  });

  it("has no caller after a revocation, even if a look-up was in flight", async () => {
    const { known, remember } = setUp();
    await remember();
    known.clear();
    expect(known.find("hash")).toBeUndefined();
    let answer: (caller: Caller) => void = () => undefined;
    const slow = known.remember("hash", () => new Promise<Caller>((resolve) => (answer = resolve)));
    known.clear();
    answer(user);
    expect(await slow).toBe(user);
    expect(known.find("hash")).toBeUndefined();
  });

  it.each(["hook", "enroll"] as const)("has no callers with a %s token", async (role) => {
    const { known, remember } = setUp({ ...user, role });
    await remember();
    expect(known.find("hash")).toBeUndefined();
    expect(known.isRejected("hash")).toBe(false);
  });

  it("has a rejected secret for two seconds, and none after a revocation", async () => {
    const { known, pass } = setUp();
    const reject = () => known.remember("hash", async () => undefined);
    expect(await reject()).toBeUndefined();
    expect([known.isRejected("hash"), known.isRejected("another")]).toEqual([true, false]);
    expect(known.find("hash")).toBeUndefined();
    pass(2_000);
    expect(known.isRejected("hash")).toBe(false);
    await reject();
    known.clear();
    expect(known.isRejected("hash")).toBe(false);
  });
});
