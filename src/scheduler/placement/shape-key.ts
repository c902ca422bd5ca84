import type { PlacementRequest } from "./model.ts";

/** Returns true if two requests certainly have one shape. If false, compare their keys. */
export function isSameShape(a: PlacementRequest, b: PlacementRequest): boolean {
  return (
    a.constraints === b.constraints &&
    a.serviceId === b.serviceId &&
    a.images === b.images &&
    a.avoidHostIds.length === 0 &&
    b.avoidHostIds.length === 0 &&
    a.replacesOnHostId === b.replacesOnHostId &&
    a.resources.cpuMillis === b.resources.cpuMillis &&
    a.resources.memoryBytes === b.resources.memoryBytes &&
    a.resources.volumeBytes === b.resources.volumeBytes &&
    a.resources.rootfsBytes === b.resources.rootfsBytes
  );
}

/** The key of the shape of a request among those with the same constraints. */
export function shapeKey(request: PlacementRequest): string {
  const { serviceId, resources, images, avoidHostIds, replacesOnHostId = "" } = request;
  const hosts = `${avoidHostIds.join(" ")} | ${replacesOnHostId}`;
  return `${serviceId} ${amountsKey(resources)} ${images.join(" ")} | ${hosts}`;
}

export function amountsKey(amounts: PlacementRequest["resources"]): string {
  return `${amounts.cpuMillis} ${amounts.memoryBytes} ${amounts.volumeBytes} ${amounts.rootfsBytes}`;
}
