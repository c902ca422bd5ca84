import { settleAll } from "../base/settle-all.ts";
import { isInfra } from "../model/container-names.ts";
import type { Limits, LocalSetSpec } from "../model/local-set.ts";
import { isMemoryInUse } from "../model/memory-in-use.ts";
import {
  containerLimits,
  copyMemoryLimits,
  isLimited,
  setLimits,
  widenedLimits,
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
  await settleAll([
    changeLimits(context, set, listed, signal),
    changeIo(context, set, listed, signal),
  ]);
  if (set.template.volume) await context.volumes?.resize(set, signal);
}

/**
 * Widens the set's cgroup first and narrows it last. In version 1 the kernel refuses a child's
 * quota above its parent's. So the cgroup is not narrowed while a container could not be, for CPU
 * and memory separately.
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
  const areSizedButForMemory = failed.every(({ reason }) => isMemoryInUse(reason));
  const narrowed = failed.length > 0 ? copyMemoryLimits(widened, wanted) : wanted;
  if (areSizedButForMemory && !isLimited(widened, narrowed))
    await cgroups.ensure(set.setId, narrowed, signal);
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
  await settleAll(listed.map((container) => limitIo(context, set, container, signal)));
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
  if (!isLimited(seen, wanted)) await narrowOrWiden(context, { container, seen, wanted }, signal);
}

/** Applies CPU limits even if the memory limit is refused. */
async function narrowOrWiden(
  { cgroups, containers }: EngineContext,
  { container, seen, wanted }: { container: ListedContainer; seen: Limits; wanted: Limits },
  signal: AbortSignal,
): Promise<void> {
  try {
    await cgroups.checkContainerMemory(container.setId, container, wanted.memoryBytes);
    await containers.updateLimits(container, wanted, { includesMemory: true }, signal);
  } catch (error) {
    if (isMemoryInUse(error) && !isLimited(copyMemoryLimits(wanted, seen), wanted))
      await containers.updateLimits(container, wanted, { includesMemory: false }, signal);
    throw error;
  }
}
