import { AgentError } from "../../agent/base/agent-error.ts";
import { runAbortable, untilAborted } from "../../lib/async/abort.ts";
import { type Clock, createDeadline, sleep } from "../../agent/base/clock.ts";
import type { LocalSetSpec, ObservedLocalSet } from "../../agent/model/local-set.ts";
import type { SetPort } from "../../agent/ports/set-port.ts";
import type { SimulatedCall, SimulatedEngine, SimulatedIntercept } from "./simulated-engine.ts";

function hasRunSince(now: ObservedLocalSet | undefined, seen: ObservedLocalSet, name: string) {
  const [after, before] = [now, seen].map((set) =>
    set?.containers.find((one) => one.name === name),
  );
  if (after?.startedAt === undefined) return false;
  return after.dockerId !== before?.dockerId || after.startedAt !== before.startedAt;
}

/**
 * A host's sets in a simulated engine: the port of Docker, at the cost of a few objects per
 * container. `intercept` applies to this port alone.
 */
export function createSimulatedSetPort(
  engine: SimulatedEngine,
  hostId: string,
  intercept?: SimulatedIntercept,
): SetPort {
  const { clock } = engine.options;
  const call = createCall(engine, intercept);
  const each = (set: LocalSetSpec, names: readonly string[], act: (name: string) => void) =>
    set.template.containers.forEach(({ name }) => names.includes(name) && act(name));
  return {
    // Every set is seen, or none.
    observe: (signal) => call("observe", {}, signal, () => engine.observe(hostId)),
    observeSet: (setId, signal) =>
      call("observe", { setId }, signal, () => engine.observeSet(hostId, setId)),
    prepare: (set, signal, { completed = [] } = {}) =>
      call(
        "prepare",
        set,
        signal,
        () => engine.prepareInfra(hostId, set),
        () => engine.prepareBusiness(hostId, set, completed),
      ),
    prepareContainer: (set, name, signal) =>
      call("prepareContainer", set, signal, () => engine.prepareContainer(hostId, set, name)),
    pullImages: (set, names, signal) =>
      call("pull", set, signal, () => engine.pullImages(set, names)),
    prefetch: ({ reference }, signal) =>
      call("pull", {}, signal, () => ({ imageId: engine.fetchImage(reference) })),
    resize: (set, signal) => call("resize", set, signal, () => engine.resize(hostId, set)),
    start: (set, names, signal, { seen } = {}) =>
      call("start", set, signal, () =>
        each(set, names, (name) => {
          if (!seen || !hasRunSince(engine.observeSet(hostId, set.setId), seen, name))
            engine.start(hostId, set.setId, name);
        }),
      ),
    stop: (set, names, signal) =>
      call("stop", set, signal, () =>
        each(set, names, (name) => engine.stop(hostId, set.setId, name)),
      ),
    remove: (setId, signal) =>
      call(
        "remove",
        { setId },
        signal,
        () => engine.removeBusiness(hostId, setId),
        () => engine.removeInfra(hostId, setId),
      ),
    stopAll: (setId, signal) =>
      call("stopAll", { setId }, signal, () => engine.stopAll(hostId, setId)),
    ...createChecks(engine, hostId, call),
    logs: (setId, container, { follow }, signal) =>
      simulatedLogs(engine.observeSet(hostId, setId), container, follow, signal),
    async watch(onChange, signal, onOpen) {
      const end = engine.watch(hostId, onChange);
      onOpen?.();
      await untilAborted(signal);
      end();
    },
    memoryUsage: async () => ({}),
    ping: (timeoutMs) => pingWithin(clock, call, timeoutMs),
    images: async (signal) => {
      signal.throwIfAborted();
      return [...(engine.options.images ?? [])];
    },
  };
}

/** Probes, and the hook after a start. */
function createChecks(
  engine: SimulatedEngine,
  hostId: string,
  call: Call,
): Pick<SetPort, "postStart" | "probe"> {
  return {
    postStart: (set, { container: { name } }, signal) =>
      call("postStart", set, signal, () => {
        return engine.options.postStart?.(set.setId, name) ?? { healthy: true };
      }),
    probe: (set, { container: { name: container } }, signal) =>
      call("probe", set, signal, () => {
        const seen = engine
          .observeSet(hostId, set.setId)
          ?.containers.find(({ name }) => name === container);
        if (seen?.state !== "running")
          return { healthy: false, detail: "the container does not run" };
        return engine.options.probe?.(set.setId, container) ?? { healthy: true };
      }),
  };
}

type Call = <T>(
  verb: SimulatedCall["verb"],
  subject: { setId?: string; generation?: number },
  signal: AbortSignal,
  ...steps: [...(() => void)[], () => T]
) => Promise<T>;

/**
 * Runs the steps of one call, with its delay. The interceptor runs at its beginning, its middle and
 * its end.
 */
function createCall(
  { options: { clock, delaysMs = {} } }: SimulatedEngine,
  intercept: SimulatedIntercept | undefined,
): Call {
  return async <T>(
    verb: SimulatedCall["verb"],
    subject: { setId?: string; generation?: number },
    signal: AbortSignal,
    ...steps: [...(() => void)[], () => T]
  ) => {
    const { setId, generation } = subject;
    const notify = (at: SimulatedCall["at"]) =>
      intercept?.({ verb, at, setId, generation }, signal);
    signal.throwIfAborted();
    await notify("begin");
    const delayMs = delaysMs[verb] ?? 0;
    if (delayMs > 0) await sleep(clock, delayMs, signal);
    let result: T | undefined;
    for (const [position, step] of steps.entries()) {
      if (position > 0) await notify("middle");
      signal.throwIfAborted();
      result = step() as T;
    }
    await notify("end");
    return result as T;
  };
}

async function pingWithin(clock: Clock, call: Call, timeoutMs: number): Promise<void> {
  const deadline = createDeadline(clock, timeoutMs, () => failLate(timeoutMs));
  await runAbortable<void>({ deadline }, (signal) => call("ping", {}, signal, () => undefined));
}

async function* simulatedLogs(
  observed: ObservedLocalSet | undefined,
  container: string,
  follow: boolean,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  if (!observed?.containers.some(({ name }) => name === container)) {
    throw new AgentError("not-there", `the set has no container "${container}" on this host`, {
      phase: "observe",
      temporary: true,
    });
  }
  yield Buffer.from(`${container} is simulated and prints nothing\n`);
  if (follow) await untilAborted(signal);
}

function failLate(timeoutMs: number): never {
  throw new AgentError("docker-unavailable", `Docker did not answer within ${timeoutMs} ms`, {
    phase: "observe",
    temporary: true,
  });
}
