import { AgentError } from "../../agent/base/agent-error.ts";
import type { Limits, LocalSetSpec } from "../../agent/model/local-set.ts";
import {
  containerLimits,
  isLimited,
  setLimits,
  widenedLimits,
  copyMemoryLimits,
} from "../../agent/model/set-limits.ts";
import { memoryInUse } from "../cgroups/memory-in-use.ts";
import { callDocker, dockerMessage, settleAll } from "./call-docker.ts";
import { limitIo } from "./container-io.ts";
import { isInfra, type ListedContainer } from "./container-labels.ts";
import { dockerLimits, dockerLimitsButMemory } from "./container-specs.ts";
import type { DockerContext } from "./docker-context.ts";
import { listContainers } from "./list-containers.ts";
import { readLimits } from "./observe-sets.ts";

const updateTimeoutMs = 30_000;

/** The kernel's EBUSY in the messages of old and new runc. */
const inUsePattern = /unable to set memory limit|device or resource busy/i;

/**
 * Resizes a set's cgroup, its containers and its volume to its template while they run. It applies
 * every limit that it can, even if another one fails. The volume comes last, after all limits: it
 * cannot shrink if the set's size is rolled back.
 */
export async function resizeSet(
  context: DockerContext,
  set: LocalSetSpec,
  signal: AbortSignal,
): Promise<void> {
  await settleAll([changeLimits(context, set, signal), changeIo(context, set, signal)]);
  if (set.template.volume) await context.volumes?.resize(set, signal);
}

/**
 * Widens the set's cgroup first and narrows it last. In version 1 the kernel refuses a child's
 * quota above its parent's. So the cgroup is not narrowed while a container could not be, for CPU
 * and memory separately.
 */
async function changeLimits(
  context: DockerContext,
  set: LocalSetSpec,
  signal: AbortSignal,
): Promise<void> {
  const { cgroups } = await context.environment();
  const [seen, containers] = await Promise.all([
    cgroups.read(set.setId),
    listContainers(context, { setId: set.setId, phase: "resize" }, signal),
  ]);
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
  context: DockerContext,
  set: LocalSetSpec,
  signal: AbortSignal,
): Promise<void> {
  const containers = await listContainers(context, { setId: set.setId, phase: "resize" }, signal);
  await settleAll(containers.map((container) => limitIo(context, set, container, signal)));
}

function isMemoryInUse(error: unknown): error is AgentError {
  return error instanceof AgentError && error.code === "memory-in-use";
}

/** Applies limits that differ from the template, without a restart. */
export async function applyLimits(
  context: DockerContext,
  set: LocalSetSpec,
  container: ListedContainer,
  signal: AbortSignal,
): Promise<void> {
  const template = set.template.containers.find(({ name }) => name === container.name);
  const details = await context.details.get(container, signal);
  if (!template || !details) return;
  const wanted = containerLimits(set.template, template.options);
  const seen = await readLimits(context, container, details);
  if (isLimited(seen, wanted)) return;
  try {
    await narrowOrWiden(context, set, { container, seen, wanted }, signal);
  } finally {
    context.details.forget(container.dockerId);
  }
}

/** Applies CPU limits even if the memory limit is refused. */
async function narrowOrWiden(
  context: DockerContext,
  { setId }: LocalSetSpec,
  { container, seen, wanted }: { container: ListedContainer; seen: Limits; wanted: Limits },
  signal: AbortSignal,
): Promise<void> {
  const { cgroups } = await context.environment();
  const { memoryBytes: wantedBytes } = wanted;
  try {
    await cgroups.checkContainerMemory(setId, container, wantedBytes);
    await updateContainer(context, container, dockerLimits(wanted), signal);
  } catch (error) {
    const refusal = toRefusal(container, wantedBytes, error);
    if (refusal && !isLimited(copyMemoryLimits(wanted, seen), wanted))
      await updateContainer(context, container, dockerLimitsButMemory(wanted), signal);
    throw refusal ?? error;
  }
}

function updateContainer(
  { docker }: DockerContext,
  { dockerId }: ListedContainer,
  update: Partial<ReturnType<typeof dockerLimits>>,
  signal: AbortSignal,
): Promise<unknown> {
  return callDocker({ phase: "resize", timeoutMs: updateTimeoutMs }, signal, (abortSignal) =>
    docker.getContainer(dockerId).update({ ...update, abortSignal }),
  );
}

/** Converts an error to memory-in-use if it means that; undefined for any other error. */
function toRefusal(
  { name }: ListedContainer,
  wantedBytes: number,
  error: unknown,
): AgentError | undefined {
  if (isMemoryInUse(error)) return error;
  const message = dockerMessage(error);
  if (!inUsePattern.test(message)) return undefined;
  const used = /current usage: (\d+)/i.exec(message)?.[1];
  const usedBytes = used === undefined ? undefined : Number(used);
  return memoryInUse(`"${name}"`, { usedBytes, wantedBytes }, error);
}
