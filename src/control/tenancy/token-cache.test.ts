import { describe, expect, it } from "vitest";
import type { Caller } from "../../contracts/api/caller.ts";
import { CallerTokenCache } from "./token-cache.ts";

const person: Caller = {
  tokenId: "tok_1",
  role: "tenant",
  tenantId: "ten_1",
  hookId: null,
  pool: null,
};

function setUp(caller: Caller | undefined = person) {
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
    expect(await remember()).toBe(person);
    pass(1_999);
    expect(known.find("hash")).toBe(person);
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
    answer(person);
    expect(await slow).toBe(person);
    expect(known.find("hash")).toBeUndefined();
  });

  it.each(["hook", "enroll"] as const)(
    "has neither callers with a %s token nor rejected secrets",
    async (role) => {
      const { known, remember } = setUp({ ...person, role });
      await remember();
      expect(known.find("hash")).toBeUndefined();
      const other = setUp();
      expect(await other.known.remember("hash", async () => undefined)).toBeUndefined();
      expect(other.known.find("hash")).toBeUndefined();
    },
  );
});
