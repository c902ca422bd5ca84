import { expect, it } from "vitest";
import { FairRetries } from "./fair-retries.ts";

/** Returns a function that runs a pass of at most three keys, in which those of `broken` fail. */
function createPasses() {
  const retries = new FairRetries<string>(3);
  const pass = async (keys: string, broken: string, ending?: AbortController) => {
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
  return Object.assign(pass, { findLastingError: () => retries.findLastingError() });
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

it("a failed key is tried in each pass, however many others are new", async () => {
  const pass = createPasses();
  expect(await pass("a", "a")).toEqual({ attempts: "a0", reported: "a" });
  expect(await pass("abcde", "a")).toEqual({ attempts: "b0 c0 a1", reported: "" });
  expect(await pass("adefg", "a")).toEqual({ attempts: "d0 e0 a2", reported: "" });
  // Those that failed share the rest of a pass, too.
  expect(await pass("afgh", "afg")).toEqual({ attempts: "f0 g0 a3", reported: "fg" });
  expect(await pass("afghi", "afg")).toEqual({ attempts: "h0 i0 f1", reported: "" });
  expect(await pass("afgj", "afg")).toEqual({ attempts: "j0 g1 a4", reported: "" });
});

it("an abort ends a pass, and is not a failure of the attempt that it ends", async () => {
  const pass = createPasses();
  const ending = new AbortController();
  expect(await pass("abc", "a", ending)).toEqual({ attempts: "a0", reported: "" });
  expect(await pass("abc", "")).toEqual({ attempts: "a0 b0 c0", reported: "" });
});

it("a failure lasts from the third one in a row to the first success", async () => {
  const pass = createPasses();
  await pass("ab", "a");
  await pass("ab", "a");
  expect(pass.findLastingError()).toBeUndefined();
  await pass("ab", "a");
  expect(pass.findLastingError()).toEqual(new Error("It is broken."));
  await pass("ab", "");
  expect(pass.findLastingError()).toBeUndefined();
});
