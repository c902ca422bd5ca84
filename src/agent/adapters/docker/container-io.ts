import type { LocalSetSpec, ObservedIo } from "../../ports/set-port.ts";
import type { ContainerDetails } from "./container-details.ts";
import { isInfra, type ListedContainer } from "./container-labels.ts";
import type { DockerContext } from "./docker-context.ts";

/**
 * Limits of block I/O, of the two devices that a set writes to: its volume's, and the disk that Docker keeps containers on. Docker
 * can give them to a container that is made, not to one that is there, so they are written into the kernel's files once it runs; they are
 * gone with each end of it.
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
  const devices = await devicesOf(context, details);
  const { cgroups } = await context.environment();
  const io = { devices, limits: template.io ?? {} };
  await cgroups.limitIo(setId, container.dockerId, io, signal);
}

/** Undefined while it does not run; nobody works in infra containers. */
export async function observeIo(
  context: DockerContext,
  container: ListedContainer,
  details: ContainerDetails,
): Promise<ObservedIo | undefined> {
  if (isInfra(container) || container.dockerState !== "running") return undefined;
  const { cgroups, dockerDisk } = await context.environment();
  const devices = await devicesOf(context, details);
  const limits = await cgroups.readIo(container.setId, container.dockerId, devices);
  if (!limits)
    return { limits: [], hindrance: "the kernel of its host has no such limits (blkio, io)" };
  if (dockerDisk !== undefined) return { limits };
  return { limits, hindrance: "Docker's folder is on no block device that its host's agent sees" };
}

async function devicesOf(
  context: DockerContext,
  { volumeDevice }: ContainerDetails,
): Promise<string[]> {
  const { dockerDisk } = await context.environment();
  return [...new Set([dockerDisk, volumeDevice].filter((device) => device !== undefined))];
}
