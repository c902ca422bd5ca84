import type { ResourceAmounts } from "../common/primitives.ts";
import type { ContainerTemplate, SetTemplate } from "./set-template.ts";

/**
 * Docker's memory for a container, outside of the set's cgroup. A process of containerd uses 4 MiB
 * (measured). Its memory in the kernel, and growth of dockerd and containerd are estimates.
 */
const MEMORY_BYTES_PER_CONTAINER = 8 * 2 ** 20;
/** The log of infra, and of a container without `logging`: see container-specs.ts. */
const LOG_BYTES_DEFAULT = 20 * 2 ** 20;

/** The amounts that a set books on its host in addition to its own. */
export interface ContainerOverhead {
  memoryBytes: number;
  rootfsBytes: number;
}

type Logging = ContainerTemplate["options"]["logging"];

/**
 * Computes Docker's memory and the largest logs of the containers of a set, infra included. Quotas
 * and the API's amounts of a set do not contain them. The SQL function `container_overhead` has the
 * same formula, for sets that the previous release places.
 * @param logging the option of each business container; null or undefined for the default
 */
export function computeOverhead(logging: readonly (Logging | null)[]): ContainerOverhead {
  const logBytes = logging.map((log) =>
    log ? log.maxSizeBytes * log.maxFiles : LOG_BYTES_DEFAULT,
  );
  return {
    memoryBytes: (logging.length + 1) * MEMORY_BYTES_PER_CONTAINER,
    rootfsBytes: logBytes.reduce((sum, bytes) => sum + bytes, LOG_BYTES_DEFAULT),
  };
}

export function overheadOf({ containers }: Pick<SetTemplate, "containers">): ContainerOverhead {
  return computeOverhead(containers.map(({ options }) => options.logging));
}

/** The amounts that a set with this overhead books on its host. */
export function addOverhead(own: ResourceAmounts, overhead: ContainerOverhead): ResourceAmounts {
  return {
    cpuMillis: own.cpuMillis,
    memoryBytes: own.memoryBytes + overhead.memoryBytes,
    volumeBytes: own.volumeBytes,
    rootfsBytes: own.rootfsBytes + overhead.rootfsBytes,
  };
}
