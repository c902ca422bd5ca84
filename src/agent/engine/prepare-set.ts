import { AgentError } from "../base/agent-error.ts";
import { settleAll } from "../base/settle-all.ts";
import { isInfra } from "../model/container-names.ts";
import type { LocalSetSpec } from "../model/local-set.ts";
import { setLimits, widenedLimits } from "../model/set-limits.ts";
import type { ListedContainer } from "../ports/container-port.ts";
import { createContainer, createInfra } from "./create-containers.ts";
import type { EngineContext } from "./engine-context.ts";
import { hasLostNetwork } from "./lost-network.ts";
import { removeOutdated } from "./outdated-containers.ts";
import { applyLimits } from "./resize-set.ts";
import { stopInOrder } from "./stop-containers.ts";

/**
 * SetPort.prepare. It lists the containers (one call), removes outdated ones, stops those without a
 * network, and creates missing ones:
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
): Promise<void> {
  const dataPath = findDataPath(context, set);
  const listed = await context.containers.list({ setId: set.setId, phase: "prepare" }, signal);
  const existing = await removeOutdated(context, { set, completed }, listed, signal);
  const current = await stopCutOff(context, existing, signal);

  const mounted = dataPath === undefined ? undefined : context.volumes?.ensure(set, signal);
  // If another part fails, wait for the volume, so that the next call does not overlap with it.
  await settleAll([
    Promise.resolve(mounted),
    prepareContainers(context, set, { dataPath, current, completed, mounted }, signal),
  ]);
}

interface Preparation {
  dataPath: string | undefined;
  current: readonly ListedContainer[];
  completed: readonly string[];
  mounted: Promise<void> | undefined;
}

async function prepareContainers(
  context: EngineContext,
  set: LocalSetSpec,
  { dataPath, current, completed, mounted }: Preparation,
  signal: AbortSignal,
): Promise<void> {
  const infra = current.find(isInfra);
  const limited = widenCgroup(context, set, signal);
  const created = ensureInfra(context, set, { infra, dataPath }, signal);
  await settleAll([limited, created]);
  const infraId = await created;
  const startWhenMounted = async () => {
    await mounted;
    const isRunning = infra?.dockerState === "running";
    await context.containers.startInfra(set, { dockerId: infraId, isRunning }, signal);
  };
  await settleAll([
    startWhenMounted(),
    ...set.template.containers.map(async ({ name }) => {
      const existing = current.find((candidate) => candidate.name === name);
      if (!existing && completed.includes(name)) return;
      if (!existing) {
        await createContainer(context, set, { name, infraId, dataPath }, signal);
      } else if (isDown(existing)) {
        await applyLimits(context, set, existing, signal);
      }
    }),
  ]);
}

/** Returns the Docker id of the infra container, in its network. */
async function ensureInfra(
  context: EngineContext,
  set: LocalSetSpec,
  { infra, dataPath }: { infra: ListedContainer | undefined; dataPath: string | undefined },
  signal: AbortSignal,
): Promise<string> {
  const { dockerNetwork } = await context.network.prepare(set, signal);
  return infra?.dockerId ?? createInfra(context, set, { dataPath, dockerNetwork }, signal);
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

/** The host's path of the set's data once its volume is mounted; undefined without a volume. */
function findDataPath({ volumes }: EngineContext, set: LocalSetSpec): string | undefined {
  if (set.template.volume === null) return undefined;
  if (volumes) return volumes.getDataPath(set);
  throw new AgentError("not-supported", "this host has no volumes", {
    phase: "prepare",
    temporary: false,
  });
}

/**
 * Stops the running containers that lost the network of an earlier run of infra, and returns all
 * containers with their new states. A start joins them to the current network. So their logs, root
 * file systems and anonymous volumes survive the death of infra.
 */
async function stopCutOff(
  context: EngineContext,
  existing: readonly ListedContainer[],
  signal: AbortSignal,
): Promise<ListedContainer[]> {
  const { containers } = context;
  const infra = existing.find(isInfra);
  const isInfraUp = infra?.dockerState === "running";
  const infraDetails = infra && isInfraUp ? await containers.inspect(infra, signal) : undefined;
  const verdicts = await Promise.all(
    existing.map(async (container) => {
      if (isInfra(container) || container.dockerState !== "running") return false;
      return (
        !isInfraUp || hasLostNetwork(await containers.inspect(container, signal), infraDetails)
      );
    }),
  );
  const cutOff = existing.filter((_container, position) => verdicts[position]);
  await stopInOrder(context, cutOff, signal);
  return existing.map((container) =>
    cutOff.includes(container) ? { ...container, dockerState: "exited" } : container,
  );
}
