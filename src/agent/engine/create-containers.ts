import { AgentError, IMAGE_MISSING } from "../base/agent-error.ts";
import type { LocalSetSpec } from "../model/local-set.ts";
import type { JoinedNetworks } from "../ports/network-port.ts";
import type { EngineContext } from "./engine-context.ts";
import { requireImageAccess } from "./set-images.ts";

/** Creates the infra container of a set, and its image if the daemon has lost that. */
export async function createInfra(
  { containers, images, cgroups }: EngineContext,
  set: LocalSetSpec,
  { dataPath, networks }: { dataPath: string | undefined; networks: JoinedNetworks },
  signal: AbortSignal,
): Promise<string> {
  const cgroupParent = await cgroups.parentOf(set.setId);
  const create = (image: string) =>
    containers.createInfra(set, { image, cgroupParent, networks, dataPath }, signal);
  try {
    return await create(await images.infraImage());
  } catch (error) {
    if (!isImageMissing(error)) throw error;
    return create(await images.restoreInfraImage());
  }
}

/** Creates one business container of a set whose infra container exists. */
export async function createContainer(
  context: EngineContext,
  set: LocalSetSpec,
  { name, infraId, dataPath }: { name: string; infraId: string; dataPath: string | undefined },
  signal: AbortSignal,
): Promise<void> {
  const { containers, cgroups } = context;
  await requireImageAccess(context, set, name, signal);
  const cgroupParent = await cgroups.parentOf(set.setId);
  await containers.createBusiness(set, name, { infraId, cgroupParent, dataPath }, signal);
}

function isImageMissing(error: unknown): boolean {
  return error instanceof AgentError && error.code === IMAGE_MISSING;
}
