import { AppError } from "../../contracts/common/app-error.ts";
import { bindWork, type Work } from "../../control/runtime/bind-work.ts";
import type { ControlContext } from "../../control/runtime/context.ts";
import { KeyedLock } from "../../lib/async/keyed-lock.ts";
import type { ApiContext } from "./api-env.ts";

/** Requests that may wait for one service, set, volume or hook. Further requests get 503. */
const WAITERS_PER_RESOURCE_MAX = 32;
const FLEET = "fleet";

type CreateHandler = (ctx: ControlContext) => (c: ApiContext) => Promise<Response>;

/**
 * Admits requests to the database (I15). Each request has a context of its own, which knows its
 * tenant and its deadline. Statements of a request that is late or aborted no longer run.
 *
 * Changes of one resource run one after the other in this process. Otherwise each would hold a
 * connection while it waits for the same row. A waiting request leaves the queue when its client
 * disconnects or its deadline passes.
 */
export class RequestAdmission {
  readonly #changes = new KeyedLock();

  wrap(ctx: ControlContext, createHandler: CreateHandler): (c: ApiContext) => Promise<Response> {
    return (c) => {
      const work = describeWork(c);
      const run = (): Promise<Response> => createHandler(bindWork(ctx, work))(c);
      const key = changedResource(c);
      if (key === undefined) return run();
      if (this.#changes.countWaiting(key) >= WAITERS_PER_RESOURCE_MAX) throw tooManyChanges();
      return this.#runChange(c, work, key, run);
    };
  }

  async #runChange(
    c: ApiContext,
    work: Work,
    key: string,
    run: () => Promise<Response>,
  ): Promise<Response> {
    const signal = this.#changes.isHeld(key) ? createWaitSignal(c, work) : undefined;
    const change = { hasBegun: false };
    const begin = (): Promise<Response> => {
      change.hasBegun = true;
      assertWanted(c, work);
      return run();
    };
    try {
      return await this.#changes.run(key, begin, signal);
    } catch (error) {
      throw signal?.aborted && !change.hasBegun ? abandoned() : error;
    }
  }
}

/** Aborts when the client has disconnected or the request is late. */
function createWaitSignal(c: ApiContext, { deadlineAtMs }: Work): AbortSignal {
  const { signal } = c.req.raw;
  if (deadlineAtMs === undefined) return signal;
  const remainingMs = Math.max(0, Math.ceil(deadlineAtMs - performance.now()));
  return AbortSignal.any([signal, AbortSignal.timeout(remainingMs)]);
}

function describeWork(c: ApiContext): Work {
  const deadlineAtMs = c.get("deadlineAtMs");
  const late = deadlineAtMs === undefined ? {} : { deadlineAtMs };
  const signal = (): AbortSignal => c.req.raw.signal;
  if (c.get("host")) return { kind: "agent", signal, ...late };
  const owner = c.get("caller")?.tenantId ?? c.get("tenantId") ?? FLEET;
  return { kind: "request", owner, signal, ...late };
}

/**
 * Returns the resource that a request changes, or undefined for reads, agents and new resources.
 */
function changedResource(c: ApiContext): string | undefined {
  if (c.req.method === "GET" || c.get("host")) return undefined;
  const { name, setId, volumeId, hookId } = c.req.param() as Record<string, string | undefined>;
  if (name !== undefined) return `service:${c.get("tenantId")}/${name}`;
  const id = setId ?? volumeId ?? hookId;
  return id === undefined ? undefined : `id:${id}`;
}

function assertWanted(c: ApiContext, { deadlineAtMs }: Work): void {
  const isLate = deadlineAtMs !== undefined && performance.now() >= deadlineAtMs;
  if (isLate || c.req.raw.signal.aborted) throw abandoned();
}

function abandoned(): AppError {
  return new AppError("request-timeout", {
    detail: "The request ended while others changed the same resource. Nothing was changed.",
    retryAfterMs: 1_000,
  });
}

function tooManyChanges(): AppError {
  return new AppError("overloaded", {
    detail:
      "Too many requests change this resource now. Nothing was changed. Retry the request later.",
    retryAfterMs: 1_000,
  });
}
