interface NumberedService {
  serviceId: string;
  members: readonly { addresses: readonly string[] }[];
}

/** The numbers of the services of a network, which flows load into registers and match. */
export interface ServiceNumbers {
  /** The number of the service with a set that has one of the addresses, or 0. */
  ofAddresses(addresses: readonly string[]): number;
  /** The number of the service, or 0 if it has no set in the network. */
  ofService(serviceId: string): number;
}

/**
 * Assigns a number of 32 bits to each service. It follows from the id, so the start of another
 * service changes no flow. If two ids suggest the same number, the higher id gets the next one. If
 * two services have the same address, the service with the lower id has it.
 */
export function numberServices(services: readonly NumberedService[]): ServiceNumbers {
  const numbers = new Map<string, number>();
  const byAddress = new Map<string, number>();
  const taken = new Set<number>();
  for (const { serviceId, members } of services.toSorted(compareIds)) {
    let number = hash(serviceId);
    while (number === 0 || taken.has(number)) number = (number + 1) >>> 0;
    taken.add(number);
    numbers.set(serviceId, number);
    for (const { addresses } of members)
      for (const address of addresses) if (!byAddress.has(address)) byAddress.set(address, number);
  }
  return {
    ofAddresses: (addresses) => {
      for (const address of addresses) {
        const number = byAddress.get(address);
        if (number !== undefined) return number;
      }
      return 0;
    },
    ofService: (serviceId) => numbers.get(serviceId) ?? 0,
  };
}

/** FNV-1a with 32 bits. */
function hash(text: string): number {
  let value = 0x811c9dc5;
  for (let index = 0; index < text.length; index += 1)
    value = Math.imul(value ^ text.charCodeAt(index), 0x01000193);
  return value >>> 0;
}

function compareIds(a: NumberedService, b: NumberedService): number {
  return a.serviceId < b.serviceId ? -1 : a.serviceId > b.serviceId ? 1 : 0;
}
