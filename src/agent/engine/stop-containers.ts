import type { AgentPhase } from "../base/agent-error.ts";
import { allSettledOrThrow } from "../base/all-settled-or-throw.ts";
import { isInfra } from "../model/container-names.ts";
import type { LocalSetSpec } from "../model/local-set.ts";
import type { ListedContainer } from "../ports/container-port.ts";
import type { StopOptions } from "../ports/set-port.ts";
import type { EngineContext } from "./engine-context.ts";
import { runPreStop } from "./run-hook.ts";

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
  { setId, ...options }: { setId: string } & StopOptions,
  signal: AbortSignal,
): Promise<void> {
  const listed = await context.containers.list({ setId, phase: "stop" }, signal);
  const address = listed.find(isInfra)?.address;
  await stopInOrder(context, listed, { ...options, address }, signal);
}

/**
 * SetPort.remove. It deletes infra after the business containers that joined it, and everything
 * else after infra.
 */
export async function removeSet(
  context: EngineContext,
  { setId, ...options }: { setId: string } & StopOptions,
  signal: AbortSignal,
): Promise<void> {
  const phase = "remove";
  const listed = await context.containers.list({ setId, phase }, signal);
  const business = listed.filter((container) => !isInfra(container));
  const infra = listed.filter(isInfra);
  const request = { ...options, phase, address: infra[0]?.address } as const;
  await removeContainers(context, business, request, signal);
  await removeContainers(context, infra, request, signal);
  await allSettledOrThrow([
    context.cgroups.remove(setId, signal),
    context.network.release(setId, signal),
    Promise.resolve(context.volumes?.trash(setId, signal)),
  ]);
}

/** How containers stop. `address`: the observed address of their set. */
interface StopRequest extends StopOptions {
  address?: string | undefined;
}

/**
 * Stops containers in the reverse of their start order: highest index first, equal indexes
 * together. The hook of a container precedes its stop signal.
 */
export async function stopInOrder(
  context: EngineContext,
  containers: readonly ListedContainer[],
  { set, skipsHooks, address }: StopRequest,
  signal: AbortSignal,
): Promise<void> {
  const stop = async (container: ListedContainer) => {
    if (set && !skipsHooks) await runPreStop(context, set, { ...container, address }, signal);
    await stopContainer(context, set, container, signal);
  };
  const indexes = [...new Set(containers.map(({ index }) => index))].sort((a, b) => b - a);
  for (const index of indexes) {
    const group = containers.filter((container) => container.index === index && isUp(container));
    await allSettledOrThrow(group.map(stop));
  }
}

/**
 * Stops and deletes containers in stop order, with their anonymous volumes. A missing container is
 * not an error.
 */
export async function removeContainers(
  context: EngineContext,
  containers: readonly ListedContainer[],
  { phase, ...request }: StopRequest & { phase: AgentPhase },
  signal: AbortSignal,
): Promise<void> {
  await stopInOrder(context, containers, request, signal);
  await allSettledOrThrow(
    containers.map((container) => context.containers.remove(container, phase, signal)),
  );
}

export function isUp({ dockerState }: ListedContainer): boolean {
  return dockerState === "running" || dockerState === "paused" || dockerState === "restarting";
}
