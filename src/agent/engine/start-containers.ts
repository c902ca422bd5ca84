import { AgentError } from "../base/agent-error.ts";
import { allSettledOrThrow } from "../base/all-settled-or-throw.ts";
import { isInfra } from "../model/container-names.ts";
import type { LocalSetSpec, ObservedLocalSet } from "../model/local-set.ts";
import type { ListedContainer } from "../ports/container-port.ts";
import type { EngineContext } from "./engine-context.ts";
import { limitIo } from "./limit-io.ts";
import { isContainerDetached } from "./detached-containers.ts";
import { stopContainer } from "./stop-containers.ts";

interface StartRequest {
  set: LocalSetSpec;
  names: readonly string[];
  seen?: ObservedLocalSet | undefined;
}

/** SetPort.start. */
export async function startContainers(
  context: EngineContext,
  { set, names, seen }: StartRequest,
  signal: AbortSignal,
): Promise<void> {
  const listed = await context.containers.list({ setId: set.setId, phase: "start" }, signal);
  const infra = listed.find(isInfra);
  await allSettledOrThrow(
    names.map(async (name) => {
      const container = listed.find((candidate) => candidate.name === name);
      if (!container || !infra) {
        throw new AgentError("not-prepared", `the container "${name}" does not exist yet`, {
          phase: "start",
          temporary: true,
        });
      }
      if (seen && (await hasRunSince(context, container, seen, signal))) return;
      await startContainer(context, set, { container, infra }, signal);
    }),
  );
}

/** True if the container has begun a run that the observation lacks. */
async function hasRunSince(
  { containers, log }: EngineContext,
  container: ListedContainer,
  { containers: observed }: ObservedLocalSet,
  signal: AbortSignal,
): Promise<boolean> {
  const { setId, dockerId, name } = container;
  const now = await containers.inspectNow(container, signal);
  if (now?.startedAt === undefined) return false;
  const before = observed.find((one) => one.dockerId === dockerId);
  if (before?.startedAt === now.startedAt) return false;
  log.info({ setId, container: name }, "a container has run since the decision to start it");
  return true;
}

/**
 * Starts one container in the network of infra. A running one that has lost that network is stopped
 * first.
 */
async function startContainer(
  context: EngineContext,
  set: LocalSetSpec,
  { container, infra }: { container: ListedContainer; infra: ListedContainer },
  signal: AbortSignal,
): Promise<void> {
  if (container.dockerState === "running") {
    if (!(await isContainerDetached(context, container, infra, signal))) return;
    await stopContainer(context, set, container, signal);
  }
  await context.containers.start(container, signal);
  await limitIoFromStart(context, set, { ...container, dockerState: "running" }, signal);
}

/**
 * Limits block I/O after a start, when there is no limit to remove. A failure does not fail the
 * start: the next observation finds the missing limit.
 */
async function limitIoFromStart(
  context: EngineContext,
  set: LocalSetSpec,
  container: ListedContainer,
  signal: AbortSignal,
): Promise<void> {
  if (!set.template.io) return;
  await limitIo(context, set, container, signal).catch((error: unknown) => {
    signal.throwIfAborted();
    context.log.warn({ err: error, setId: set.setId }, "cannot limit block I/O after the start");
  });
}
