import { allSettledOrThrow } from "../base/all-settled-or-throw.ts";
import { isInfra } from "../model/container-names.ts";
import type { Limits, LocalSetSpec } from "../model/local-set.ts";
import { isMemoryInUse } from "../model/memory-in-use.ts";
import {
  containerLimits,
  isLimited,
  setLimits,
  widenedLimits,
  withMemoryOf,
} from "../model/set-limits.ts";
import type { ListedContainer } from "../ports/container-port.ts";
import type { EngineContext } from "./engine-context.ts";
import { limitIo } from "./limit-io.ts";
import { readLimits } from "./observe-sets.ts";

/**
 * Resizes a set's cgroup, its containers and its volume to its template while they run. It applies
 * every limit that it can, even if another one fails. The volume comes last, after all limits: it
 * cannot shrink if the set's size is rolled back.
 */
export async function resizeSet(
  context: EngineContext,
  set: LocalSetSpec,
  signal: AbortSignal,
): Promise<void> {
  const { setId } = set;
  const listed = await context.containers.list({ setId, phase: "resize" }, signal);
  await allSettledOrThrow([
    changeLimits(context, set, listed, signal),
    changeIo(context, set, listed, signal),
  ]);
  if (set.template.volume) await context.volumes?.resize(set, signal);
}

/**
 * Raises the set's limits first and lowers them last: cgroup version 1 refuses a child's quota
 * above its parent's. If a container's memory limit could not be lowered, only the set's memory
 * limit stays. After any other failure, no limit of the set is lowered.
 */
async function changeLimits(
  context: EngineContext,
  set: LocalSetSpec,
  containers: readonly ListedContainer[],
  signal: AbortSignal,
): Promise<void> {
  const { cgroups } = context;
  const seen = await cgroups.read(set.setId);
  const wanted = setLimits(set.template);
  const widened = widenedLimits(seen, wanted);
  if (!seen || !isLimited(seen, widened)) await cgroups.ensure(set.setId, widened, signal);
  const business = containers.filter((container) => !isInfra(container));
  const outcomes = await Promise.allSettled(
    business.map((container) => applyLimits(context, set, container, signal)),
  );
  const failed = outcomes.filter((outcome) => outcome.status === "rejected");
  const canLower = failed.every(({ reason }) => isMemoryInUse(reason));
  const lowered = failed.length > 0 ? withMemoryOf(wanted, widened) : wanted;
  if (canLower && !isLimited(widened, lowered)) await cgroups.ensure(set.setId, lowered, signal);
  const [first] = failed;
  if (first) throw first.reason;
}

/** Changes the I/O limits, independent of the other limits. */
async function changeIo(
  context: EngineContext,
  set: LocalSetSpec,
  listed: readonly ListedContainer[],
  signal: AbortSignal,
): Promise<void> {
  await allSettledOrThrow(listed.map((container) => limitIo(context, set, container, signal)));
}

/** Applies limits that differ from the template, without a restart. */
export async function applyLimits(
  context: EngineContext,
  set: LocalSetSpec,
  container: ListedContainer,
  signal: AbortSignal,
): Promise<void> {
  const template = set.template.containers.find(({ name }) => name === container.name);
  const details = await context.containers.inspect(container, signal);
  if (!template || !details) return;
  const wanted = containerLimits(set.template, template.options);
  const seen = await readLimits(context, container, details);
  if (!isLimited(seen, wanted))
    await updateContainerLimits(context, { container, seen, wanted }, signal);
}

/** Applies CPU limits even if the memory limit is refused. */
async function updateContainerLimits(
  { cgroups, containers }: EngineContext,
  { container, seen, wanted }: { container: ListedContainer; seen: Limits; wanted: Limits },
  signal: AbortSignal,
): Promise<void> {
  try {
    await cgroups.checkContainerMemory(container.setId, container, wanted.memoryBytes);
    await containers.updateLimits(container, wanted, { includesMemory: true }, signal);
  } catch (error) {
    if (isMemoryInUse(error) && !isLimited(withMemoryOf(seen, wanted), wanted))
      await containers.updateLimits(container, wanted, { includesMemory: false }, signal);
    throw error;
  }
}
