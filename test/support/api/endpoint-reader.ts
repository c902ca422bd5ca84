import { createParser, type EventSourceMessage } from "eventsource-parser";
import type { EndpointList } from "../../../src/contracts/api/endpoints.ts";

export interface EndpointMessage {
  event: string | undefined;
  id: string | undefined;
  list: EndpointList;
}

/** Reads a stream of endpoints message by message. */
export class EndpointReader {
  readonly #reader: ReadableStreamDefaultReader<Uint8Array>;
  readonly #abort: AbortController;
  readonly #decoder = new TextDecoder();
  readonly #messages: EventSourceMessage[] = [];
  readonly #parser = createParser({ onEvent: (message) => void this.#messages.push(message) });

  /** @param abort disconnects the client of the stream */
  constructor(stream: ReadableStream<Uint8Array>, abort: AbortController) {
    this.#reader = stream.getReader();
    this.#abort = abort;
  }

  /** Reads the next message. Throws after the end of the stream, or after `timeoutMs`. */
  async next(timeoutMs = 30_000): Promise<EndpointMessage> {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise<never>((_resolve, reject) => {
      const error = new Error(`the stream has no message within ${timeoutMs} ms`);
      timer = setTimeout(() => reject(error), timeoutMs);
    });
    try {
      return await Promise.race([this.#next(), late]);
    } finally {
      clearTimeout(timer);
    }
  }

  async #next(): Promise<EndpointMessage> {
    while (this.#messages.length === 0) {
      const { done, value } = await this.#reader.read();
      if (done) throw new Error("the stream has ended");
      this.#parser.feed(this.#decoder.decode(value, { stream: true }));
    }
    const message = this.#messages.shift();
    if (!message) throw new Error("unreachable: the list has a message");
    const list = JSON.parse(message.data) as EndpointList;
    return { event: message.event, id: message.id, list };
  }

  /** Waits for the end of the stream. Returns false if another message comes first. */
  async isOver(): Promise<boolean> {
    if (this.#messages.length > 0) return false;
    return (await this.#reader.read()).done;
  }

  /** Disconnects. */
  async close(): Promise<void> {
    this.#abort.abort();
    await this.#reader.cancel().catch(() => undefined);
  }
}
