import type Docker from "dockerode";
import { createFairLimit } from "../../lib/async/fair-limit.ts";
import { AgentError } from "../../agent/base/agent-error.ts";
import {
  callDocker,
  dockerMessage,
  dockerStatus,
  toAbortError,
  findRefusal,
} from "./call-docker.ts";
import { readProgress } from "./progress.ts";

/**
 * Deadline of a pull without any progress. Docker reports none while it unpacks a layer, which
 * takes minutes for a large one.
 */
const idleTimeoutMsDefault = 10 * 60_000;
/** A slow line may take hours for a large image. */
const pullTimeoutMs = 6 * 60 * 60_000;
const pullsMax = 8;
/** A pull that takes longer only waits for its registry, so the next one may begin. */
const pullSlowMs = 30_000;
const slowPullsMax = 64;
const pullsPerTenantMax = 32;

/**
 * Messages of registries that answered that they do not have the image. A registry that refuses
 * access is not among them: an outage of its token service looks the same.
 */
const unknownImage =
  /manifest unknown|name unknown|manifest for .* not found|failed to resolve reference .*: not found|invalid reference|unsupported manifest|no matching manifest/i;
/** A proxy that answers 404 with a page of its own is not a registry. */
const notOfRegistry = /error parsing HTTP \d+ response body|unexpected status/i;

/**
 * Pulls an image from the registry in its name. Concurrent pulls of one image by one tenant share
 * one pull.
 */
export type PullImage = (reference: string, tenant: string, signal: AbortSignal) => Promise<void>;

/**
 * Creates a puller that rejects with AgentError in the phase "image". Its codes:
 *
 * - image-not-found (permanent): the registry has no such image.
 * - image-unavailable (temporary): the registry is unreachable, refuses now, or the pull makes no
 *   progress for ten minutes.
 * - docker-unavailable: the daemon is unreachable.
 *
 * At most 8 pulls start within 30 s, and tenants take turns. A pull that waits for its registry
 * does not delay the pulls of other tenants.
 */
export function createPullImage(
  docker: Docker,
  { idleTimeoutMs = idleTimeoutMsDefault }: { idleTimeoutMs?: number | undefined } = {},
): PullImage {
  const inFlight = new Map<string, SharedPull>();
  const limit = createFairLimit({
    callsMax: pullsMax,
    slowMs: pullSlowMs,
    slowMax: slowPullsMax,
    callsPerKeyMax: pullsPerTenantMax,
  });
  const startPull = (reference: string, tenant: string): SharedPull => {
    const controller = new AbortController();
    const done = limit(tenant, async () => {
      controller.signal.throwIfAborted();
      await pullImage(docker, { reference, idleTimeoutMs }, controller.signal);
    });
    done.catch(() => undefined); // remaining waiters get the error
    return { done, waiters: 0, controller };
  };
  return async (reference, tenant, signal) => {
    signal.throwIfAborted();
    const key = `${tenant} ${reference}`;
    const shared = inFlight.get(key) ?? startPull(reference, tenant);
    inFlight.set(key, shared);
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
        if (inFlight.get(key) === shared) inFlight.delete(key);
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

async function pullImage(
  docker: Docker,
  { reference, idleTimeoutMs }: { reference: string; idleTimeoutMs: number },
  signal: AbortSignal,
): Promise<void> {
  const idle = new AbortController();
  const timer = setTimeout(() => idle.abort(toIdleError(reference, idleTimeoutMs)), idleTimeoutMs);
  const either = AbortSignal.any([signal, idle.signal]);
  try {
    await callDocker({ phase: "image", timeoutMs: pullTimeoutMs }, either, async (abortSignal) => {
      const progress = await docker.createImage({ ...pullQuery(reference), abortSignal });
      const failure = await readProgress(progress, () => timer.refresh());
      if (failure !== undefined) throw toPullError(reference, failure);
    });
  } catch (error) {
    const isUnreachable = dockerStatus(error) === undefined;
    throw isUnreachable ? error : toPullError(reference, dockerMessage(error), findRefusal(error));
  } finally {
    clearTimeout(timer);
  }
}

/** Without a tag Docker would pull every tag of the repository. */
function pullQuery(reference: string): { fromImage: string; tag?: string } {
  const hasVersion = reference.includes("@") || /:[^/]+$/.test(reference);
  return hasVersion ? { fromImage: reference } : { fromImage: reference, tag: "latest" };
}

function toIdleError(reference: string, idleTimeoutMs: number): AgentError {
  const message = `image "${reference}" cannot be pulled now: no progress for ${idleTimeoutMs / 1_000} s`;
  return new AgentError("image-unavailable", message, { phase: "image", temporary: true });
}

function toPullError(reference: string, detail: string, cause?: unknown): AgentError {
  if (unknownImage.test(detail) && !notOfRegistry.test(detail)) {
    const message = `image "${reference}" not found: ${detail}`;
    return new AgentError("image-not-found", message, { phase: "image", temporary: false, cause });
  }
  const message = `image "${reference}" cannot be pulled now: ${detail}`;
  return new AgentError("image-unavailable", message, { phase: "image", temporary: true, cause });
}
