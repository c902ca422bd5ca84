import { setImmediate as nextTurn } from "node:timers/promises";
import { expect, it } from "vitest";
import { createBatchedRead } from "./batch-reads.ts";

/** Records each batch; the test decides when a batch is answered. */
function controlledRead() {
  const batches: { keys: readonly string[]; answer: () => void; fail: (error: Error) => void }[] =
    [];
  const read = (keys: readonly string[]): Promise<string[]> =>
    new Promise((resolve, reject) => {
      const answer = (): void => resolve(keys.map((key) => `value of ${key}`));
      batches.push({ keys, answer, fail: reject });
    });
  return { batches, read };
}

it("keys of one turn of the event loop share a batch, and each caller gets its own value", async () => {
  const { batches, read } = controlledRead();
  const readOne = createBatchedRead(read, { keysMax: 10, batchesMax: 2 });
  const values = Promise.all([readOne("a"), readOne("b"), readOne("a")]);
  await nextTurn();
  expect(batches.map(({ keys }) => keys)).toEqual([["a", "b", "a"]]);
  batches[0]?.answer();
  expect(await values).toEqual(["value of a", "value of b", "value of a"]);
});

it("keys that come while all batches are in flight share the next one", async () => {
  const { batches, read } = controlledRead();
  const readOne = createBatchedRead(read, { keysMax: 10, batchesMax: 1 });
  const first = readOne("a");
  await nextTurn();
  const later = Promise.all([readOne("b"), nextTurn().then(() => readOne("c"))]);
  await nextTurn();
  expect(batches.map(({ keys }) => keys)).toEqual([["a"]]);
  batches[0]?.answer();
  await first;
  expect(batches.map(({ keys }) => keys)).toEqual([["a"], ["b", "c"]]);
  batches[1]?.answer();
  expect(await later).toEqual(["value of b", "value of c"]);
});

it("a batch has at most keysMax keys", async () => {
  const { batches, read } = controlledRead();
  const readOne = createBatchedRead(read, { keysMax: 2, batchesMax: 2 });
  const values = Promise.all(["a", "b", "c", "d", "e"].map(readOne));
  await nextTurn();
  expect(batches.map(({ keys }) => keys)).toEqual([
    ["a", "b"],
    ["c", "d"],
  ]);
  batches[0]?.answer();
  await nextTurn();
  expect(batches[2]?.keys).toEqual(["e"]);
  batches[1]?.answer();
  batches[2]?.answer();
  expect(await values).toHaveLength(5);
});

it("a batch that fails fails for its callers only", async () => {
  const { batches, read } = controlledRead();
  const readOne = createBatchedRead(read, { keysMax: 1, batchesMax: 2 });
  const failing = readOne("a");
  const working = readOne("b");
  const failure = expect(failing).rejects.toThrow("no connection");
  await nextTurn();
  batches[0]?.fail(new Error("no connection"));
  batches[1]?.answer();
  await failure;
  expect(await working).toBe("value of b");
});
