import { createParser } from "eventsource-parser";
import type { BerthEvent } from "../../src/contracts/api/events.ts";
import type { DemoBerth } from "./demo-berth.ts";

/** Streams the service's events from the API until `close` is called. */
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
    throw new Error(`the event stream answered ${response.status}`);
  const parser = createParser({
    onEvent: ({ data }) => onEvent(JSON.parse(data) as BerthEvent),
  });
  const reading = read(response.body, parser.feed.bind(parser)).catch((error: unknown) => {
    if (!stop.signal.aborted) throw error;
  });
  // The caller of close() gets a failure; until then it must not be an unhandled rejection.
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
