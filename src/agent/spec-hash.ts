import { createHash } from "node:crypto";
import { INFRA_CONTAINER } from "./container-names.ts";
import type { LocalSetSpec } from "./ports/set-port.ts";

/**
 * Hash of everything that makes a container of a set another container, so that a difference means it is made anew:
 * image, process, environment and the generation of the last restart. What only the agent acts on (health check, restart
 * policy), what is given with each stop (timeout) and what can be changed in place (limits) is left out: changing it
 * disturbs nothing.
 *
 * `container` is the name of a business container of the template, or "infra". Throws RangeError for any other name.
 */
export function specHash(set: LocalSetSpec, container: string): string {
  const known = hashes.get(set) ?? new Map<string, string>();
  hashes.set(set, known);
  const hash = known.get(container) ?? computeHash(set, container);
  known.set(container, hash);
  return hash;
}

/** Specs are never changed, only replaced, and every look at a set asks for the hashes of all its containers. */
const hashes = new WeakMap<LocalSetSpec, Map<string, string>>();

function computeHash(set: LocalSetSpec, container: string): string {
  const { template } = set;
  const common = {
    tenant: set.tenant,
    service: set.service,
    restartGeneration: set.restartGeneration,
  };
  // Its size is no part of it: a volume grows while it is used.
  const volume = template.volume && {
    mountPath: template.volume.mountPath,
    restoreVolumeId: set.restoreVolumeId,
  };
  if (container === INFRA_CONTAINER) {
    return hashOf({
      ...common,
      sysctls: template.sysctls,
      networks: template.networks,
      volume,
    });
  }
  const found = template.containers.find((candidate) => candidate.name === container);
  if (!found) throw new RangeError(`the set's template has no container "${container}"`);
  const {
    health: _health,
    restart: _restart,
    stopTimeoutSeconds: _timeout,
    cpuPercent: _cpu,
    memoryPercent: _memory,
    ...options
  } = found.options;
  return hashOf({
    ...common,
    image: found.image,
    index: found.index,
    options,
    volume,
  });
}

/** SHA-256 of the value as JSON with sorted keys and without undefined members, shortened to 128 bits. */
function hashOf(value: unknown): string {
  return createHash("sha256").update(canonicalJson(value)).digest("hex").slice(0, 32);
}

function canonicalJson(value: unknown): string {
  return JSON.stringify(value, (_key, member: unknown) =>
    member !== null && typeof member === "object" && !Array.isArray(member)
      ? Object.fromEntries(Object.entries(member).sort(([a], [b]) => (a < b ? -1 : 1)))
      : member,
  );
}
