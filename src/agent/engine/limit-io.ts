import { isInfra } from "../model/container-names.ts";
import type { LocalSetSpec, ObservedIo } from "../model/local-set.ts";
import type { ContainerDetails, ListedContainer } from "../ports/container-port.ts";
import type { EngineContext } from "./engine-context.ts";

/**
 * Limits block I/O on the devices that a set writes to: its volume's, and Docker's disks. Docker
 * can limit I/O only at a container's creation. So the agent writes the limits to the kernel after
 * each start, and each exit clears them.
 */
export async function limitIo(
  context: EngineContext,
  { setId, template }: LocalSetSpec,
  container: ListedContainer,
  signal: AbortSignal,
): Promise<void> {
  if (isInfra(container) || container.dockerState !== "running") return;
  const details = await context.containers.inspect(container, signal);
  if (!details) return;
  const devices = await listDevices(context, details);
  const io = { devices, limits: template.io ?? {} };
  await context.cgroups.limitIo(setId, container.dockerId, io, signal);
}

/** Undefined while the container does not run, and for infra containers, which do no I/O. */
export async function observeIo(
  context: EngineContext,
  container: ListedContainer,
  details: ContainerDetails,
): Promise<ObservedIo | undefined> {
  if (isInfra(container) || container.dockerState !== "running") return undefined;
  const { hasUnknownDisk } = await context.daemon.facts();
  const devices = await listDevices(context, details);
  const limits = await context.cgroups.readIo(container.setId, container.dockerId, devices);
  if (!limits)
    return {
      limits: [],
      unenforceableReason: "the kernel of the host has no block I/O controller (blkio or io)",
    };
  if (!hasUnknownDisk) return { limits };
  return {
    limits,
    unenforceableReason: "Docker's folder is on no block device that the agent can see",
  };
}

async function listDevices(
  { daemon }: EngineContext,
  { volumeDevice }: ContainerDetails,
): Promise<string[]> {
  const { diskDevices } = await daemon.facts();
  return [...new Set(volumeDevice === undefined ? diskDevices : [...diskDevices, volumeDevice])];
}
