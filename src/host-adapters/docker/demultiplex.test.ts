import { expect, test } from "vitest";
import { demultiplex } from "./demultiplex.ts";

function frame(text: string, stream = 1): Buffer {
  const payload = Buffer.from(text);
  const header = Buffer.from([stream, 0, 0, 0, 0, 0, 0, 0]);
  header.writeUInt32BE(payload.length, 4);
  return Buffer.concat([header, payload]);
}

/** The stream in pieces of `bytes`, as a socket gives it. */
async function* piecesOf(stream: Buffer, bytes: number): AsyncGenerator<Buffer> {
  for (let start = 0; start < stream.length; start += bytes)
    yield stream.subarray(start, start + bytes);
}

async function collect(output: AsyncIterable<unknown>): Promise<string[]> {
  const chunks: string[] = [];
  for await (const chunk of demultiplex(output)) chunks.push(Buffer.from(chunk).toString());
  return chunks;
}

test("the lines of one piece of the stream are one chunk", async () => {
  const lines = Array.from({ length: 1_000 }, (_, index) => `line ${index}\n`);
  const stream = Buffer.concat(lines.map((text) => frame(text)));
  const chunks = await collect(piecesOf(stream, stream.length));
  expect(chunks).toEqual([lines.join("")]);
});

test.each([1, 7, 8, 9, 64])("pieces of %i bytes give the same text", async (bytes) => {
  const stream = Buffer.concat(
    ["first\n", "", "second\n", "x".repeat(300)].map((text) => frame(text)),
  );
  const chunks = await collect(piecesOf(stream, bytes));
  expect(chunks.join("")).toBe(`first\nsecond\n${"x".repeat(300)}`);
});

test("a message of Docker about a log that it cannot read is part of the text", async () => {
  const stream = Buffer.concat([frame("good\n"), frame("Error grabbing logs: EOF", 3)]);
  expect((await collect(piecesOf(stream, 64))).join("")).toBe("good\nError grabbing logs: EOF");
});

test("a malformed stream is an error, and what came before it is not lost", async () => {
  const seen: string[] = [];
  const read = async (): Promise<void> => {
    const broken = (async function* () {
      yield frame("good\n");
      yield Buffer.alloc(8, 255);
    })();
    for await (const chunk of demultiplex(broken)) seen.push(Buffer.from(chunk).toString());
  };
  await expect(read()).rejects.toThrow("malformed");
  expect(seen).toEqual(["good\n"]);
});
