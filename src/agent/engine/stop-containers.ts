import type { AgentPhase } from "../base/agent-error.ts";
import { allSettledOrThrow } from "../base/all-settled-or-throw.ts";
import { isInfra } from "../model/container-names.ts";
import type { LocalSetSpec } from "../model/local-set.ts";
import type { ListedContainer } from "../ports/container-port.ts";
import type { StopOptions } from "../ports/set-port.ts";
import type { EngineContext } from "./engine-context.ts";

/** SetPort.stop. */
export async function stopContainers(
  context: EngineContext,
  set: LocalSetSpec,
  names: readonly string[],
  signal: AbortSignal,
): Promise<void> {
  const listed = await context.containers.list({ setId: set.setId, phase: "stop" }, signal);
  const wanted = listed.filter(({ name }) => names.includes(name));
  await allSettledOrThrow(
    wanted.map((container) => stopContainer(context, set, container, signal)),
  );
}

/**
 * Stops one container with the timeout of the template, which may be newer than its own. Without
 * the template, or if that lacks the container, its own timeout applies.
 */
export async function stopContainer(
  { containers }: EngineContext,
  set: LocalSetSpec | undefined,
  { dockerId, name }: ListedContainer,
  signal: AbortSignal,
): Promise<void> {
  const wanted = set?.template.containers.find((container) => container.name === name);
  const timeoutSeconds = wanted?.options.stopTimeoutSeconds;
  await containers.stop(dockerId, { timeoutSeconds }, signal);
}

/** SetPort.stopAll. */
export async function stopSet(
  context: EngineContext,
  { setId, set }: { setId: string } & StopOptions,
  signal: AbortSignal,
): Promise<void> {
  const listed = await context.containers.list({ setId, phase: "stop" }, signal);
  await stopInOrder(context, set, listed, signal);
}

/**
 * SetPort.remove. It deletes infra after the business containers that joined it, and everything
 * else after infra.
 */
export async function removeSet(
  context: EngineContext,
  { setId, set }: { setId: string } & StopOptions,
  signal: AbortSignal,
): Promise<void> {
  const listed = await context.containers.list({ setId, phase: "remove" }, signal);
  const business = listed.filter((container) => !isInfra(container));
  await removeContainers(context, business, { set, phase: "remove" }, signal);
  await removeContainers(context, listed.filter(isInfra), { set, phase: "remove" }, signal);
  await allSettledOrThrow([
    context.cgroups.remove(setId, signal),
    context.network.release(setId, signal),
    Promise.resolve(context.volumes?.trash(setId, signal)),
  ]);
}

/**
 * Stops containers in the reverse of their start order: highest index first, equal indexes
 * together.
 */
export async function stopInOrder(
  context: EngineContext,
  set: LocalSetSpec | undefined,
  containers: readonly ListedContainer[],
  signal: AbortSignal,
): Promise<void> {
  const indexes = [...new Set(containers.map(({ index }) => index))].sort((a, b) => b - a);
  for (const index of indexes) {
    const group = containers.filter((container) => container.index === index && isUp(container));
    await allSettledOrThrow(
      group.map((container) => stopContainer(context, set, container, signal)),
    );
  }
}

/**
 * Stops and deletes containers in stop order, with their anonymous volumes. A missing container is
 * not an error.
 */
export async function removeContainers(
  context: EngineContext,
  containers: readonly ListedContainer[],
  { set, phase }: { phase: AgentPhase } & StopOptions,
  signal: AbortSignal,
): Promise<void> {
  await stopInOrder(context, set, containers, signal);
  await allSettledOrThrow(
    containers.map((container) => context.containers.remove(container, phase, signal)),
  );
}

export function isUp({ dockerState }: ListedContainer): boolean {
  return dockerState === "running" || dockerState === "paused" || dockerState === "restarting";
}
