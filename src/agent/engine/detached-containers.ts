import type {
  ContainerDetails,
  ContainerProcess,
  ListedContainer,
} from "../ports/container-port.ts";
import type { EngineContext } from "./engine-context.ts";

/** Inspects a running business container. True if it is detached from the network of infra. */
export async function isContainerDetached(
  { containers }: Pick<EngineContext, "containers">,
  container: ListedContainer,
  infra: ListedContainer,
  signal: AbortSignal,
): Promise<boolean> {
  if (infra.dockerState !== "running") return true;
  const details = await containers.inspect(container, signal);
  return isDetached(details, await containers.inspect(infra, signal));
}

/**
 * True for a detached container: its network namespace differs from that of infra. It began
 * in a previous run of infra, and is unreachable. Start times do not show that, because the
 * wall clock may have been stepped between them.
 */
export function isDetached(
  details: ContainerDetails | undefined,
  infra: ContainerDetails | undefined,
): boolean {
  if (!details?.process || !infra?.process) return false;
  return hasOtherNetwork(details.process, infra.process);
}

/**
 * True if the processes have different networks. When infra ends, its namespace loses all
 * interfaces but the loopback, so their names show the difference as well.
 */
export function hasOtherNetwork(one: ContainerProcess, other: ContainerProcess): boolean {
  return one.network !== undefined && other.network !== undefined
    ? one.network !== other.network
    : one.interfaces !== other.interfaces;
}
