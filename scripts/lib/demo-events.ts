import { createParser } from "eventsource-parser";
import type { EndpointList } from "../../src/contracts/api/endpoints.ts";
import type { BerthEvent } from "../../src/contracts/api/events.ts";
import type { DemoBerth } from "./demo-berth.ts";

/** A stream that runs until `close` is called. */
export interface Watch {
  close(): Promise<void>;
}

/** Streams the service's events from the API. */
export function watchEvents(
  berth: DemoBerth,
  service: string,
  onEvent: (event: BerthEvent) => void,
): Promise<Watch> {
  return watch(berth, `/v1/events?service=${service}`, (data) =>
    onEvent(JSON.parse(data) as BerthEvent),
  );
}

/** Streams the service's endpoints from the API: first the current list, then each change. */
export function watchEndpoints(
  berth: DemoBerth,
  service: string,
  onList: (list: EndpointList) => void,
): Promise<Watch> {
  return watch(berth, `/v1/services/${service}/endpoints`, (data) =>
    onList(JSON.parse(data) as EndpointList),
  );
}

async function watch(
  berth: DemoBerth,
  pathname: string,
  onData: (data: string) => void,
): Promise<Watch> {
  const stop = new AbortController();
  const response = await fetch(berth.apiUrl + pathname, {
    headers: { Accept: "text/event-stream", Authorization: `Bearer ${berth.adminToken}` },
    signal: stop.signal,
  });
  if (!response.ok || !response.body)
    throw new Error(`the stream of ${pathname} answered ${response.status}`);
  const parser = createParser({ onEvent: ({ data }) => onData(data) });
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
