import { AgentError } from "../base/agent-error.ts";
import type { LogPort } from "../ports/log-port.ts";
import type { SetPort } from "../ports/set-port.ts";
import type { EngineContext } from "./engine-context.ts";
import { observeSet, observeSets } from "./observe-sets.ts";
import { prepareContainer } from "./prepare-container.ts";
import { prepareSet } from "./prepare-set.ts";
import { runPostStart } from "./run-hook.ts";
import { runProbe } from "./run-probe.ts";
import { resizeSet } from "./resize-set.ts";
import { pullImages } from "./set-images.ts";
import { startContainers } from "./start-containers.ts";
import { removeSet, stopContainers, stopSet } from "./stop-containers.ts";

/** The ports to the machine that the set engine calls. */
export interface SetEnginePorts extends EngineContext {
  logs: LogPort;
}

/**
 * The sets of a host. The engine decides the order of the calls to the ports, and performs no I/O
 * itself. It stores nothing: the containers' labels have their identity and owner.
 */
export function createSetEngine({ logs, ...context }: SetEnginePorts): SetPort {
  const { containers, cgroups, daemon, images } = context;
  return {
    observe: (signal, onUnseen) => observeSets(context, signal, onUnseen),
    observeSet: (setId, signal) => observeSet(context, setId, signal),
    prepare: (set, signal, { completed = [] } = {}) =>
      prepareSet(context, { set, completed }, signal),
    prepareContainer: (set, name, signal) => prepareContainer(context, set, name, signal),
    pullImages: (set, names, signal) => pullImages(context, { set, names }, signal),
    prefetch: (image, signal) => images.prefetch(image, signal),
    resize: (set, signal) => resizeSet(context, set, signal),
    start: (set, names, signal, options) =>
      startContainers(context, { set, names, ...options }, signal),
    stop: (set, names, signal) => stopContainers(context, set, names, signal),
    remove: (setId, signal, options) => removeSet(context, { setId, ...options }, signal),
    stopAll: (setId, signal, options) => stopSet(context, { setId, ...options }, signal),
    postStart: (set, target, signal) => runPostStart(context, set, target, signal),
    probe: (set, target, signal) => runProbe(context, set, target, signal),
    logs: (setId, name, range, signal) =>
      readLogs({ containers, logs }, { setId, name }, range, signal),
    watch: (onChange, signal, onOpen) => containers.watch({ onChange, onOpen }, signal),
    memoryUsage: () => cgroups.memoryUsage(),
    ping: (timeoutMs) => daemon.ping(timeoutMs),
    images: (signal) => images.list(signal),
  };
}

async function* readLogs(
  { containers, logs }: Pick<SetEnginePorts, "containers" | "logs">,
  { setId, name }: { setId: string; name: string },
  range: { tail: number; follow: boolean },
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  const listed = await containers.list({ setId, phase: "observe" }, signal);
  const found = listed.find((container) => container.name === name);
  if (!found) {
    throw new AgentError("not-there", `the set has no container "${name}" on this host`, {
      phase: "observe",
      temporary: true,
    });
  }
  yield* logs.read(found.dockerId, range, signal);
}
