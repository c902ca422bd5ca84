import type { EndpointList } from "../../contracts/api/endpoints.ts";
import type { EndpointFeeds } from "../../control/services/endpoint-feeds.ts";
import { createEventStream, defaultStreamLimits, type StreamLimits } from "../http/event-stream.ts";

/**
 * Streams the endpoints of a service: the whole list, and the whole list again after each change. A
 * slow reader skips lists. After the deletion of the service the last list is empty, and the stream
 * ends. All streams of a process share `feeds`. Throws not-found.
 */
export async function streamEndpoints(
  feeds: EndpointFeeds,
  tenantId: string,
  name: string,
  signal: AbortSignal,
  limits: StreamLimits = defaultStreamLimits,
): Promise<ReadableStream<Uint8Array>> {
  const { feed, stop } = await feeds.follow(tenantId, name);
  let sent = feed.list;
  const source = {
    readGapMs: 0,
    lastId: () => sent.version,
    waitForNews: (timeoutMs: number, ended: AbortSignal) => feed.waitForChange(timeoutMs, ended),
    read: async () => {
      const { list, ended } = feed;
      const text = list === sent ? "" : toMessage(list);
      sent = list;
      return { text, isLast: ended.aborted };
    },
  };
  const onEnd = (): void => {
    stop();
    limits.onEnd?.();
  };
  const start = `retry: 1000\n${toMessage(sent)}`;
  return createEventStream(start, source, signal, { ...limits, onEnd });
}

function toMessage(list: EndpointList): string {
  return `event: endpoints\nid: ${list.version}\ndata: ${JSON.stringify(list)}\n\n`;
}
