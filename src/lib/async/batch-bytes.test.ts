import { expect, test } from "vitest";
import { batchBytes } from "./batch-bytes.ts";

const encode = (text: string): Uint8Array => new TextEncoder().encode(text);
const decode = (chunk: Uint8Array): string => new TextDecoder().decode(chunk);

async function collect(source: AsyncIterable<Uint8Array>): Promise<string[]> {
  const chunks: string[] = [];
  for await (const chunk of source) chunks.push(decode(chunk));
  return chunks;
}

test("joins chunks that have arrived, up to the limit", async () => {
  const lines = Array.from({ length: 10 }, (_, index) => encode(`${index}`));
  expect(await collect(batchBytes(lines, 4))).toEqual(["0123", "4567", "89"]);
});

test("passes a chunk on while the source is quiet", async () => {
  let arrive = (_chunk: Uint8Array): void => undefined;
  const source = (async function* () {
    yield encode("first");
    yield await new Promise<Uint8Array>((resolve) => (arrive = resolve));
  })();
  const batches = batchBytes(source, 1_000);
  expect(await batches.next()).toMatchObject({ value: encode("first") });
  arrive(encode("second"));
  expect(await batches.next()).toMatchObject({ value: encode("second") });
  expect((await batches.next()).done).toBe(true);
});

test("yields the bytes before an error, then throws it", async () => {
  const source = (async function* () {
    yield encode("a");
    yield encode("b");
    throw new Error("the connection broke");
  })();
  const batches = batchBytes(source, 1_000);
  expect(await batches.next()).toMatchObject({ value: encode("ab") });
  await expect(batches.next()).rejects.toThrow("the connection broke");
});

test("ends immediately if the consumer stops while the source is quiet", async () => {
  const source = (async function* () {
    yield encode("a");
    await new Promise(() => undefined); // never resolves
  })();
  const batches = batchBytes(source, 1_000);
  expect(await batches.next()).toMatchObject({ value: encode("a") });
  expect(await batches.return(undefined)).toMatchObject({ done: true });
});

test("an empty source yields nothing", async () => {
  expect(await collect(batchBytes([], 10))).toEqual([]);
});
