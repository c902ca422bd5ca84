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

describe("callers that were let in a moment ago", () => {
  it("are known for two seconds from when they were looked up, and no longer", async () => {
    const { known, pass, remember } = setUp();
    expect(known.find("hash")).toBeUndefined();
    expect(await remember()).toBe(person);
    pass(1_999);
    expect(known.find("hash")).toBe(person);
    expect(known.find("another")).toBeUndefined();
    pass(1);
    expect(known.find("hash")).toBeUndefined();
  });

  it("are known no more once one was revoked, even those whose look-up was under way", async () => {
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
    "are not those of a %s token, nor who was refused",
    async (role) => {
      const { known, remember } = setUp({ ...person, role });
      await remember();
      expect(known.find("hash")).toBeUndefined();
      const nobody = setUp();
      expect(await nobody.known.remember("hash", async () => undefined)).toBeUndefined();
      expect(nobody.known.find("hash")).toBeUndefined();
    },
  );
});
