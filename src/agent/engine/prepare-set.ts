import { allSettledOrThrow } from "../base/all-settled-or-throw.ts";
import { isInfra } from "../model/container-names.ts";
import type { LocalSetSpec } from "../model/local-set.ts";
import { setLimits, widenedLimits } from "../model/set-limits.ts";
import type { ListedContainer } from "../ports/container-port.ts";
import type { ContainerFailure } from "../model/local-set.ts";
import { createContainer, createInfra } from "./create-containers.ts";
import type { EngineContext } from "./engine-context.ts";
import { isContainerDetached } from "./detached-containers.ts";
import { markMisplaced } from "./misplaced-containers.ts";
import { mustReplace, removeStale } from "./stale-containers.ts";
import { applyLimits } from "./resize-set.ts";
import { findDataPath } from "./set-data.ts";
import { stopInOrder } from "./stop-containers.ts";

/**
 * SetPort.prepare. It lists the containers (one call), removes stale ones, stops detached ones,
 * and creates missing ones:
 *
 *     volume  -----------------------\
 *     cgroup  ------------------------+
 *     network --> create infra -------+--> start infra
 *                          \--> create the business containers concurrently
 *
 * A container can be created as soon as the owner of its network exists, and its volume must be
 * mounted only at its start. Any step may be the last one before a crash: the next call finds its
 * result by label.
 *
 * Running containers retain their limits, and the set's cgroup is at most widened. Narrowing it
 * can fail while containers have their previous limits or use more. That must not block a
 * preparation, so resizeSet does it.
 */
export async function prepareSet(
  context: EngineContext,
  { set, completed }: { set: LocalSetSpec; completed: readonly string[] },
  signal: AbortSignal,
): Promise<ContainerFailure[]> {
  const dataPath = findDataPath(context, set);
  const listed = await context.containers.list({ setId: set.setId, phase: "prepare" }, signal);
  const marked = await markMisplaced(context, listed, signal);
  const existing = await removeStale(context, { set, completed }, marked, signal);
  const current = await stopDetached(context, set, existing, signal);

  const mounting = dataPath === undefined ? undefined : context.volumes?.ensure(set, signal);
  // If another part fails, wait for the volume, so that the next call does not overlap with it.
  const preparing = prepareContainers(
    context,
    set,
    { dataPath, current, completed, mounting },
    signal,
  );
  await allSettledOrThrow([Promise.resolve(mounting), preparing]);
  return preparing;
}

interface Preparation {
  dataPath: string | undefined;
  current: readonly ListedContainer[];
  completed: readonly string[];
  mounting: Promise<void> | undefined;
}

async function prepareContainers(
  context: EngineContext,
  set: LocalSetSpec,
  { dataPath, current, completed, mounting }: Preparation,
  signal: AbortSignal,
): Promise<ContainerFailure[]> {
  const infra = current.find(isInfra);
  const widening = widenCgroup(context, set, signal);
  const creatingInfra = ensureInfra(context, set, { infra, dataPath }, signal);
  await allSettledOrThrow([widening, creatingInfra]);
  const infraId = await creatingInfra;
  const startWhenMounted = async () => {
    await mounting;
    // Docker 26 lists a container as running for a moment after its stop, so the listed state
    // does not show that infra runs.
    await context.containers.startInfra(set, infraId, signal);
  };
  const failures: ContainerFailure[] = [];
  const createMissing = async (name: string) => {
    const existing = current.find((candidate) => candidate.name === name);
    if (existing ? mustReplace(set, existing) : completed.includes(name)) return;
    try {
      if (!existing) await createContainer(context, set, { name, infraId, dataPath }, signal);
      else if (isDown(existing)) await applyLimits(context, set, existing, signal);
    } catch (error) {
      signal.throwIfAborted();
      failures.push({ container: name, error });
    }
  };
  const names = set.template.containers.map(({ name }) => name);
  await allSettledOrThrow([startWhenMounted(), ...names.map(createMissing)]);
  return failures;
}

/**
 * Returns the Docker id of the infra container, in its networks. A crash may have left a container
 * that is in the first one only, and Docker connects it to the others again without an effect.
 */
async function ensureInfra(
  context: EngineContext,
  set: LocalSetSpec,
  { infra, dataPath }: { infra: ListedContainer | undefined; dataPath: string | undefined },
  signal: AbortSignal,
): Promise<string> {
  const networks = await context.network.prepare(set, signal);
  const infraId =
    infra?.dockerId ?? (await createInfra(context, set, { dataPath, networks }, signal));
  if (infra?.dockerState !== "running")
    await context.containers.connectInfra(set, { infraId, networks }, signal);
  return infraId;
}

async function widenCgroup(
  { cgroups }: EngineContext,
  set: LocalSetSpec,
  signal: AbortSignal,
): Promise<void> {
  const seen = await cgroups.read(set.setId);
  await cgroups.ensure(set.setId, widenedLimits(seen, setLimits(set.template)), signal);
}

/** With its previous limits, a container might not start in a recreated cgroup. */
function isDown({ dockerState }: ListedContainer): boolean {
  return dockerState === "created" || dockerState === "exited";
}

/**
 * Stops the running containers that are detached from the network of infra, and returns all
 * containers with their new states. A start joins them to the current network. So their logs, root
 * file systems and anonymous volumes survive the death of infra.
 */
async function stopDetached(
  context: EngineContext,
  set: LocalSetSpec,
  existing: readonly ListedContainer[],
  signal: AbortSignal,
): Promise<ListedContainer[]> {
  const infra = existing.find(isInfra);
  const verdicts = await Promise.all(
    existing.map(async (container) => {
      if (!infra || isInfra(container) || container.dockerState !== "running") return false;
      return isContainerDetached(context, container, infra, signal);
    }),
  );
  const detached = existing.filter((_container, position) => verdicts[position]);
  await stopInOrder(context, detached, { set, skipsHooks: true }, signal);
  return existing.map((container) =>
    detached.includes(container) ? { ...container, dockerState: "exited" } : container,
  );
}
