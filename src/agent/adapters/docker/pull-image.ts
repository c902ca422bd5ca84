import type Docker from "dockerode";
import { AgentError } from "../../agent-error.ts";
import {
  callDocker,
  dockerMessage,
  dockerStatus,
  toAbortError,
  findRefusal,
} from "./call-docker.ts";
import { truncate } from "../../../lib/text/truncate.ts";

const pullTimeoutMs = 10 * 60_000;
/** Messages of registries that do not have the image, or do not allow access to it. */
const unknownImage =
  /not found|manifest unknown|name unknown|repository does not exist|pull access denied|invalid reference|unsupported manifest|no matching manifest/i;

/** Pulls an image from the registry in its name. Concurrent pulls of one image share one pull. */
export type PullImage = (reference: string, signal: AbortSignal) => Promise<void>;

/**
 * Creates a puller that rejects with AgentError in the phase "image". Its codes:
 *
 * - image-not-found (permanent): the registry has no such image.
 * - image-unavailable (temporary): the registry is unreachable or refuses now.
 * - docker-unavailable: the daemon does not answer within 10 minutes.
 */
export function createPullImage(docker: Docker): PullImage {
  const inFlight = new Map<string, SharedPull>();
  return async (reference, signal) => {
    signal.throwIfAborted();
    const shared = inFlight.get(reference) ?? startPull(docker, reference);
    inFlight.set(reference, shared);
    shared.waiters += 1;
    let onAbort = () => {};
    const aborted = new Promise<never>((_resolve, reject) => {
      onAbort = () => reject(toAbortError(signal));
    });
    signal.addEventListener("abort", onAbort, { once: true });
    try {
      await Promise.race([shared.done, aborted]);
    } finally {
      signal.removeEventListener("abort", onAbort);
      shared.waiters -= 1;
      if (shared.waiters === 0) {
        if (inFlight.get(reference) === shared) inFlight.delete(reference);
        shared.controller.abort();
      }
    }
  };
}

interface SharedPull {
  done: Promise<void>;
  waiters: number;
  /** Aborted when the last waiter has stopped waiting. */
  controller: AbortController;
}

function startPull(docker: Docker, reference: string): SharedPull {
  const controller = new AbortController();
  const done = pullImage(docker, reference, controller.signal);
  done.catch(() => undefined); // remaining waiters get the error
  return { done, waiters: 0, controller };
}

async function pullImage(docker: Docker, reference: string, signal: AbortSignal): Promise<void> {
  try {
    await callDocker({ phase: "image", timeoutMs: pullTimeoutMs }, signal, async (abortSignal) => {
      const progress = await docker.createImage({ ...pullQuery(reference), abortSignal });
      const failure = await lastError(progress);
      if (failure !== undefined) throw toPullError(reference, failure);
    });
  } catch (error) {
    const isUnreachable = dockerStatus(error) === undefined;
    throw isUnreachable ? error : toPullError(reference, dockerMessage(error), findRefusal(error));
  }
}

/** Without a tag Docker would pull every tag of the repository. */
function pullQuery(reference: string): { fromImage: string; tag?: string } {
  const hasVersion = reference.includes("@") || /:[^/]+$/.test(reference);
  return hasVersion ? { fromImage: reference } : { fromImage: reference, tag: "latest" };
}

/** Docker answers 200 early, and reports a failure in its progress stream of JSON lines. */
async function lastError(progress: NodeJS.ReadableStream): Promise<string | undefined> {
  let rest = "";
  let error: string | undefined;
  for await (const chunk of progress) {
    const lines = (rest + String(chunk)).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) error = parseError(line) ?? error;
  }
  return parseError(rest) ?? error;
}

function parseError(line: string): string | undefined {
  if (!line.includes('"error"')) return undefined;
  try {
    const { error } = JSON.parse(line) as { error?: unknown };
    return typeof error === "string" ? error : undefined;
  } catch {
    return truncate(line, 500);
  }
}

function toPullError(reference: string, detail: string, cause?: unknown): AgentError {
  if (unknownImage.test(detail)) {
    const message = `image "${reference}" not found: ${detail}`;
    return new AgentError("image-not-found", message, { phase: "image", temporary: false, cause });
  }
  const message = `image "${reference}" cannot be pulled now: ${detail}`;
  return new AgentError("image-unavailable", message, { phase: "image", temporary: true, cause });
}
