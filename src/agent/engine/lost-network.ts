import type { ContainerDetails, ContainerProcess } from "../ports/container-port.ts";

/**
 * True for a business container in a different network namespace than its infra container. It began
 * in a previous run of infra, and is unreachable. Start times do not show that, because the
 * wall clock may have been stepped between them.
 */
export function hasLostNetwork(
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
