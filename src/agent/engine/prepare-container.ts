import { AgentError } from "../base/agent-error.ts";
import { isInfra } from "../model/container-names.ts";
import type { LocalSetSpec } from "../model/local-set.ts";
import type { ListedContainer } from "../ports/container-port.ts";
import { createContainer } from "./create-containers.ts";
import type { EngineContext } from "./engine-context.ts";
import { isContainerDetached } from "./detached-containers.ts";
import { markMisplaced } from "./misplaced-containers.ts";
import { listOutdated, mustReplace } from "./stale-containers.ts";
import { findDataPath } from "./set-data.ts";
import { requireImages } from "./set-images.ts";
import { applyLimits } from "./resize-set.ts";
import { isUp, removeContainers, stopContainer } from "./stop-containers.ts";

/** SetPort.prepareContainer. */
export async function prepareContainer(
  context: EngineContext,
  set: LocalSetSpec,
  name: string,
  signal: AbortSignal,
): Promise<void> {
  const dataPath = findDataPath(context, set);
  const listed = await context.containers.list({ setId: set.setId, phase: "prepare" }, signal);
  const infra = listed.find(isInfra);
  if (!infra) {
    throw new AgentError("not-prepared", `"${name}" cannot be created before its infra container`, {
      phase: "prepare",
      temporary: true,
    });
  }
  const own = listed.filter((container) => container.name === name);
  const [existing] = await markMisplaced(context, own, signal);
  if (existing && existing.infraId === infra.dockerId && !mustReplace(set, existing)) {
    await makeStartable(context, set, { container: existing, infra }, signal);
    return;
  }
  // Without its image a replaced container would be down during the pull. Neither must one stop
  // while another one waits: the set could be down until the last image is here.
  const others = existing && isUp(existing) ? listOutdated(set, listed) : [];
  await requireImages(context, { set, names: [name, ...others] }, signal);
  // Someone may have unmounted it. A container would then write to the disk of the host (I13).
  if (dataPath !== undefined) await context.volumes?.ensure(set, signal);
  const { address } = infra;
  if (existing)
    await removeContainers(context, [existing], { set, address, phase: "prepare" }, signal);
  await createContainer(context, set, { name, infraId: infra.dockerId, dataPath }, signal);
}

/**
 * Makes an up-to-date container startable: applies changed limits while it is stopped, and stops it
 * if it runs detached. Its start joins it to the network of infra.
 */
async function makeStartable(
  context: EngineContext,
  set: LocalSetSpec,
  { container, infra }: { container: ListedContainer; infra: ListedContainer },
  signal: AbortSignal,
): Promise<void> {
  if (container.dockerState !== "running") return applyLimits(context, set, container, signal);
  if (await isContainerDetached(context, container, infra, signal))
    await stopContainer(context, set, container, signal);
}
