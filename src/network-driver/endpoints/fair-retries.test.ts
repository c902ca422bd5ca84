import { expect, it } from "vitest";
import { FairRetries } from "./fair-retries.ts";

/** Returns a function that runs a pass of at most three keys, in which those of `broken` fail. */
function createPasses() {
  const retries = new FairRetries<string>(3);
  return async (keys: string, broken: string, ending?: AbortController) => {
    const attempts: string[] = [];
    const reported: string[] = [];
    const { signal } = ending ?? new AbortController();
    await retries.run(keys.split(""), {
      work: async (key, failures) => {
        attempts.push(`${key}${failures}`);
        if (!broken.includes(key)) return;
        ending?.abort();
        throw new Error("It is broken.");
      },
      onFirstFailure: (key) => reported.push(key),
      signal,
    });
    return { attempts: attempts.join(" "), reported: reported.join("") };
  };
}

it("failed keys come last, the longest waiting first", async () => {
  const pass = createPasses();
  expect(await pass("abcd", "ab")).toEqual({ attempts: "a0 b0 c0", reported: "ab" });
  expect(await pass("abcd", "acd")).toEqual({ attempts: "c0 d0 a1", reported: "cd" });
  expect(await pass("abcde", "e")).toEqual({ attempts: "e0 b1 c1", reported: "e" });
  expect(await pass("abcde", "")).toEqual({ attempts: "b0 c0 d1", reported: "" });
  // A key that was missing begins again.
  expect(await pass("b", "")).toEqual({ attempts: "b0", reported: "" });
  expect(await pass("a", "a")).toEqual({ attempts: "a0", reported: "a" });
});

it("an abort ends a pass, and is not a failure of the attempt that it ends", async () => {
  const pass = createPasses();
  const ending = new AbortController();
  expect(await pass("abc", "a", ending)).toEqual({ attempts: "a0", reported: "" });
  expect(await pass("abc", "")).toEqual({ attempts: "a0 b0 c0", reported: "" });
});
