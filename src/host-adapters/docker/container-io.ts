import type { LocalSetSpec, ObservedIo } from "../../agent/model/local-set.ts";
import type { ContainerDetails } from "./container-details.ts";
import { isInfra, type ListedContainer } from "./container-labels.ts";
import type { DockerContext } from "./docker-context.ts";

/**
 * Limits block I/O on the two devices that a set writes to: its volume's, and Docker's disk. Docker
 * can limit I/O only at a container's creation. So the agent writes the limits to the kernel after
 * each start, and each exit clears them.
 */
export async function limitIo(
  context: DockerContext,
  { setId, template }: LocalSetSpec,
  container: ListedContainer,
  signal: AbortSignal,
): Promise<void> {
  if (isInfra(container) || container.dockerState !== "running") return;
  const details = await context.details.get(container, signal);
  if (!details) return;
  const devices = await listDevices(context, details);
  const { cgroups } = await context.environment();
  const io = { devices, limits: template.io ?? {} };
  await cgroups.limitIo(setId, container.dockerId, io, signal);
}

/** Undefined while the container does not run, and for infra containers, which do no I/O. */
export async function observeIo(
  context: DockerContext,
  container: ListedContainer,
  details: ContainerDetails,
): Promise<ObservedIo | undefined> {
  if (isInfra(container) || container.dockerState !== "running") return undefined;
  const { cgroups, dockerDisk } = await context.environment();
  const devices = await listDevices(context, details);
  const limits = await cgroups.readIo(container.setId, container.dockerId, devices);
  if (!limits)
    return { limits: [], unenforceableReason: "the host's kernel has no such limits (blkio, io)" };
  if (dockerDisk !== undefined) return { limits };
  return {
    limits,
    unenforceableReason: "Docker's folder is on no block device that the agent can see",
  };
}

async function listDevices(
  context: DockerContext,
  { volumeDevice }: ContainerDetails,
): Promise<string[]> {
  const { dockerDisk } = await context.environment();
  return [...new Set([dockerDisk, volumeDevice].filter((device) => device !== undefined))];
}
