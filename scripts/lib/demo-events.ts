import { createParser } from "eventsource-parser";
import type { BerthEvent } from "../../src/contracts/api/events.ts";
import type { DemoBerth } from "./demo-berth.ts";

/** The service's own events as they happen, over the API's event stream, until `close` is called. */
export async function watchEvents(
  berth: DemoBerth,
  service: string,
  onEvent: (event: BerthEvent) => void,
): Promise<{ close: () => Promise<void> }> {
  const stop = new AbortController();
  const response = await fetch(`${berth.apiUrl}/v1/events?service=${service}`, {
    headers: { Accept: "text/event-stream", Authorization: `Bearer ${berth.adminToken}` },
    signal: stop.signal,
  });
  if (!response.ok || !response.body)
    throw new Error(`the stream of events answered ${response.status}`);
  const parser = createParser({
    onEvent: ({ data }) => onEvent(JSON.parse(data) as BerthEvent),
  });
  const reading = read(response.body, parser.feed.bind(parser)).catch((error: unknown) => {
    if (!stop.signal.aborted) throw error;
  });
  // Whoever awaits close() sees a failure; until then it must not count as unhandled.
  reading.catch(() => undefined);
  return {
    close: async () => {
      stop.abort();
      await reading;
    },
  };
}

async function read(body: ReadableStream<Uint8Array>, feed: (text: string) => void): Promise<void> {
  const decoder = new TextDecoder();
  for await (const chunk of body) feed(decoder.decode(chunk, { stream: true }));
}
