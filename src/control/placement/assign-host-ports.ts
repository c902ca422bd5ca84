import { fixedHostPort, type TemplatePort } from "../../contracts/api/template-ports.ts";
import type { PortRange } from "../../contracts/common/port-ranges.ts";
import type { ChosenHostPort, UsedHostPorts } from "../../db/queries/placement/host-ports.ts";

/** A set with published ports on its host. */
export interface HostPortNeed {
  setId: string;
  hostId: string;
  /** A set that is placed again has a higher one. */
  generation: number;
  ports: readonly TemplatePort[];
}

/**
 * Assigns a host port to each published port, in the order of the sets. A set gets all of its ports
 * or none: then another set has a fixed port of it, or the range is used up.
 *
 * The search for a port begins at a position that set and generation determine. So a set that could
 * not bind its port, because a program of the host has it, gets another one at the next placement.
 */
export function assignHostPorts(
  needs: readonly HostPortNeed[],
  usedPorts: readonly UsedHostPorts[],
  range: PortRange,
): ChosenHostPort[] {
  const used = new Map(
    usedPorts.map(({ hostId, protocol, ports }) => [`${hostId} ${protocol}`, new Set(ports)]),
  );
  const usedOn = (hostId: string, protocol: string): Set<number> => {
    const key = `${hostId} ${protocol}`;
    const ports = used.get(key) ?? new Set<number>();
    used.set(key, ports);
    return ports;
  };
  return needs.flatMap(({ setId, hostId, generation, ports }) => {
    const chosen: ChosenHostPort[] = [];
    // The fixed ports first, because the others have a choice.
    const ordered = ports.toSorted((a, b) => Number(isChosen(a)) - Number(isChosen(b)));
    for (const wanted of ordered) {
      const { name, protocol } = wanted;
      const taken = usedOn(hostId, protocol);
      const port = fixedHostPort(wanted) ?? findFree(taken, range, hash(`${setId} ${generation}`));
      if (port === undefined || taken.has(port)) {
        for (const undone of chosen) usedOn(hostId, undone.protocol).delete(undone.port);
        return [];
      }
      taken.add(port);
      chosen.push({ hostId, protocol, port, setId, name });
    }
    return chosen;
  });
}

function isChosen(port: TemplatePort): boolean {
  return fixedHostPort(port) === undefined;
}

/** The first free port from a position in the range on. After the last port follows the first. */
function findFree(
  taken: ReadonlySet<number>,
  { first, last }: PortRange,
  position: number,
): number | undefined {
  const size = last - first + 1;
  for (let step = 0; step < size; step++) {
    const port = first + ((position + step) % size);
    if (!taken.has(port)) return port;
  }
  return undefined;
}

/** FNV-1a with 32 bits. */
function hash(text: string): number {
  let value = 0x811c9dc5;
  for (let at = 0; at < text.length; at++)
    value = Math.imul(value ^ text.charCodeAt(at), 0x01000193) >>> 0;
  return value;
}
