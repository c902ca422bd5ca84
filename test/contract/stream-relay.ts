import { setTimeout as delay } from "node:timers/promises";
import { expect, it } from "vitest";
import type { LogStreamRequest } from "../../src/contracts/agent-protocol/log-stream-request.ts";
import { newId } from "../../src/lib/ids.ts";
import type { StreamRelay } from "../../src/control/runtime/context.ts";

/** The same relay in two processes. */
export interface StreamRelaysUnderTest {
  reader: StreamRelay;
  writer: StreamRelay;
}

/** The guarantees of every implementation of StreamRelay. */
export function describeStreamRelay(under: () => StreamRelaysUnderTest): void {
  const open = async (): Promise<{ hostId: string; request: LogStreamRequest }> => {
    const hostId = newId("host");
    const request = {
      streamId: newId("str"),
      setId: newId("set"),
      container: "app",
      follow: true,
      tail: 10,
    };
    await under().reader.request(hostId, request);
    return { hostId, request };
  };
  const never = new AbortController().signal;

  it("a request reaches only its host, and only once", async () => {
    const { hostId, request } = await open();
    expect(await under().writer.takeRequests(newId("host"))).toEqual([]);
    expect(await under().writer.takeRequests(hostId)).toEqual([request]);
    expect(await under().writer.takeRequests(hostId)).toEqual([]);
  });

  it("bytes arrive unchanged and in order until the end", async () => {
    const { reader, writer } = under();
    const { streamId } = (await open()).request;
    const sent = Array.from({ length: 300 }, (_, index) =>
      Uint8Array.from({ length: 1 + (index % 97) }, (_, byte) => (index * 31 + byte) % 256),
    );
    const reading = readAll(reader.read(streamId, never));
    await writer.append(streamId, new Uint8Array());
    for (const chunk of sent) await writer.append(streamId, chunk);
    await writer.end(streamId);
    expect(Buffer.compare(await reading, Buffer.concat(sent))).toBe(0);
  });

  it("a reader receives the agent's error after the bytes before it", async () => {
    const { reader, writer } = under();
    const { streamId } = (await open()).request;
    const seen: string[] = [];
    const reading = (async () => {
      for await (const chunk of reader.read(streamId, never))
        seen.push(String.fromCharCode(...chunk));
    })();
    reading.catch(() => undefined); // expected below
    await writer.append(streamId, Buffer.from("before"));
    await writer.end(streamId, "there is no such container");
    await expect(reading).rejects.toMatchObject({
      name: "AppError",
      publicDetail: expect.stringContaining("there is no such container"),
    });
    expect(seen.join("")).toBe("before");
  });

  it("a reader of an agent with only an error receives no bytes", async () => {
    const { reader, writer } = under();
    const { streamId } = (await open()).request;
    const first = reader.read(streamId, never)[Symbol.asyncIterator]().next();
    first.catch(() => undefined); // expected below
    await writer.append(streamId, new Uint8Array());
    await writer.end(streamId, "the container was never created");
    await expect(first).rejects.toMatchObject({ code: "dependency-unavailable" });
  });

  it("a writer gets an error after its reader has disconnected", async () => {
    const { reader, writer } = under();
    const { streamId } = (await open()).request;
    const stopping = new AbortController();
    const reading = readAll(reader.read(streamId, stopping.signal));
    await writer.append(streamId, Buffer.from("first"));
    stopping.abort();
    await reading;
    await expect(
      (async () => {
        for (let count = 0; count < 100; count++) {
          await writer.append(streamId, Buffer.from("more"));
          await delay(10);
        }
      })(),
    ).rejects.toMatchObject({ code: "not-found" });
    await writer.end(streamId).catch((error: unknown) => {
      expect(error).toMatchObject({ code: "not-found" });
    });
  });

  it("a write to a stream without a request is refused", async () => {
    await expect(
      under().writer.append(newId("str"), Buffer.from("uninvited")),
    ).rejects.toMatchObject({ code: "not-found" });
  });
}

async function readAll(chunks: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  for await (const chunk of chunks) parts.push(chunk);
  return Buffer.concat(parts);
}
