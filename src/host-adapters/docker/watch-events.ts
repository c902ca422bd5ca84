import { setTimeout as delay } from "node:timers/promises";
import type { ContainerListener } from "../../agent/ports/container-port.ts";
import { computeBackoffMs } from "../../agent/base/backoff.ts";
import { linkAbort } from "../../lib/async/abort.ts";
import { callDocker } from "./call-docker.ts";
import { labels } from "./container-labels.ts";
import { negotiateApi } from "./docker-api.ts";
import type { DockerContext } from "./docker-context.ts";

const openTimeoutMs = 20_000;
const reopenBackoff = { minMs: 100, maxMs: 5_000 };
/** An event has about 1 KB. A longer line is not an event. */
const lineCharsMax = 2 ** 20;
const watched = ["create", "start", "die", "oom", "destroy", "update", "pause", "unpause"];

/**
 * ContainerPort.watch on Docker's event stream. It reopens the stream after a failure, with a delay
 * that doubles from 0.1 to 5 s. While the stream is open, container details are cached
 * (ContainerDetailsCache), and the containers of each set are known (ContainerIndex). A daemon that
 * restarts ends the stream, so each end and each start of it invalidate the facts about the daemon.
 */
export async function watchEvents(
  context: DockerContext,
  listener: ContainerListener,
  signal: AbortSignal,
): Promise<void> {
  let endsInRow = 0;
  const isEnded = () => signal.aborted;
  while (!isEnded()) {
    try {
      await readEvents(context, listener, signal, () => {
        endsInRow = 0;
        listener.onOpen?.();
      });
    } catch (error) {
      if (!isEnded()) context.log.warn({ err: error }, "lost Docker's event stream");
    } finally {
      context.details.setLive(false);
      context.index.setLive(false);
      context.forgetFacts();
    }
    endsInRow++;
    const waitMs = computeBackoffMs(reopenBackoff, endsInRow, Math.random());
    await delay(waitMs, undefined, { signal }).catch(() => undefined);
  }
}

async function readEvents(
  context: DockerContext,
  { onChange }: ContainerListener,
  signal: AbortSignal,
  onOpen: () => void,
): Promise<void> {
  const { docker, hostId, details, index } = context;
  const label = [`${labels.host}=${hostId}`];
  const filters = JSON.stringify({ type: ["container"], event: watched, label });
  const { controller, unlink } = linkAbort(signal);
  try {
    // The stream outlives the call that opens it, so it has a signal of its own. The client's types
    // lack that option.
    const options = { filters, abortSignal: controller.signal };
    await negotiateApi(docker, openTimeoutMs, signal);
    const stream = await callDocker({ phase: "observe", timeoutMs: openTimeoutMs }, signal, () =>
      docker.getEvents(options),
    );
    // A daemon that restarted before the stream was open may have another configuration.
    context.forgetFacts();
    details.setLive(true);
    index.setLive(true);
    onOpen();
    let rest = "";
    for await (const chunk of stream) {
      const lines = (rest + String(chunk)).split("\n");
      rest = lines.pop() ?? "";
      if (rest.length > lineCharsMax) throw new Error("an event of Docker is too long");
      for (const line of lines) {
        const event = parseEvent(line);
        if (!event) continue;
        if (event.action === "destroy") index.noteRemoved(event);
        if (event.action === "create") {
          index.noteCreated(event);
          continue;
        }
        details.forget(event.dockerId);
        if (event.action === "start" || event.action === "destroy")
          details.forgetRun(event.dockerId);
        if (event.action === "oom") details.noteOomKill(event.dockerId);
        if (event.action === "die") details.noteExit(event.dockerId);
        onChange(event.setId);
      }
    }
  } finally {
    unlink();
    controller.abort();
  }
}

interface ContainerEvent {
  dockerId: string;
  setId: string;
  action: string;
}

function parseEvent(line: string): ContainerEvent | undefined {
  if (line.trim() === "") return undefined;
  const event = JSON.parse(line) as {
    Action?: string;
    Actor?: { ID?: string; Attributes?: Record<string, string> };
  };
  const setId = event.Actor?.Attributes?.[labels.set];
  if (setId === undefined || event.Actor?.ID === undefined) return undefined;
  return { dockerId: event.Actor.ID, setId, action: event.Action ?? "" };
}
