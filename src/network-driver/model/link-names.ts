/** Linux permits 15 characters. */
const NAME_CHARACTERS = 15;

/** The ends of an endpoint's link. Docker moves the container's end and renames it. */
export interface LinkEnds {
  hostEnd: string;
  containerEnd: string;
}

/**
 * The names of a driver's interfaces, derived from Docker's random ids of endpoints. No other
 * program of the host may use the prefix: the driver removes links with it that have no endpoint.
 */
export interface LinkNames {
  nameEnds(endpointId: string): LinkEnds;
  isHostEnd(name: string): boolean;
  /** The link between the switch and the routing of the host. It belongs to no endpoint. */
  uplink: { switchEnd: string; routingEnd: string };
}

/** @param prefix one to three characters. The default prefix leaves 48 bits of the id. */
export function createLinkNames(prefix: string): LinkNames {
  const idCharacters = NAME_CHARACTERS - `${prefix}h-`.length;
  const pattern = new RegExp(`^${prefix}h-[0-9a-z]{${idCharacters}}$`);
  return {
    nameEnds(endpointId) {
      const short = endpointId.slice(0, idCharacters);
      return { hostEnd: `${prefix}h-${short}`, containerEnd: `${prefix}c-${short}` };
    },
    isHostEnd: (name) => pattern.test(name),
    uplink: { switchEnd: `${prefix}u-switch`, routingEnd: `${prefix}u-host` },
  };
}
