import { createHash } from "node:crypto";
import { INFRA_CONTAINER } from "./container-names.ts";
import type { LocalSetSpec } from "./local-set.ts";
import { type CreatedContainer, type HashedSetSpec, isOutdated } from "./outdated.ts";

/**
 * Hash of every property that requires a new container: image, process, environment, and the
 * generation of the last restart. A difference means that the container is outdated.
 *
 * It excludes properties that need no new container. Only the agent uses the health check, the
 * hooks, the restart policy, and whether the set serves without the container. Each stop sends its
 * timeout, and limits change in place.
 *
 * `container` is a business container of the template, or "infra". Throws RangeError for any other
 * name.
 */
export function specHash(set: LocalSetSpec, container: string): string {
  const known = hashes.get(set) ?? new Map<string, string>();
  hashes.set(set, known);
  const hash = known.get(container) ?? computeHash(set, container);
  known.set(container, hash);
  return hash;
}

/** `isOutdated` for a set without hashes. */
export function isContainerOutdated(
  set: LocalSetSpec,
  name: string,
  created: CreatedContainer,
): boolean {
  return isOutdated(hashSpec(set), name, created);
}

/** The set with the hashes of all its containers, for decisions that compute none. */
export function hashSpec<Spec extends LocalSetSpec>(set: Spec): Spec & HashedSetSpec {
  const names = [INFRA_CONTAINER, ...set.template.containers.map(({ name }) => name)];
  return {
    ...set,
    specHashes: Object.fromEntries(names.map((name) => [name, specHash(set, name)])),
  };
}

/**
 * Caches hashes by spec, because specs are immutable and each observation needs the hashes of all
 * containers.
 */
const hashes = new WeakMap<LocalSetSpec, Map<string, string>>();

function computeHash(set: LocalSetSpec, container: string): string {
  const { template } = set;
  const common = {
    tenant: set.tenant,
    service: set.service,
    restartGeneration: set.restartGeneration,
  };
  // The hash excludes the size, because a volume grows online.
  const volume = template.volume && {
    mountPath: template.volume.mountPath,
    restoreVolumeId: set.restoreVolumeId,
  };
  if (container === INFRA_CONTAINER) {
    return hashJson({
      ...common,
      sysctls: template.sysctls,
      networks: template.networks,
      // Sets on Docker's bridge have none, so their hashes are those of earlier releases.
      attachments: set.attachments,
      // Undefined for sets without published ports, likewise.
      hostPorts: set.hostPorts,
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
    hooks: _hooks,
    serving: _serving,
    // Earlier releases stored this default in each template. The hashes must not change.
    stopSignal = "SIGTERM",
    ...options
  } = found.options;
  return hashJson({
    ...common,
    image: found.image,
    index: found.index,
    options: { ...options, stopSignal },
    volume,
  });
}

/**
 * SHA-256 of the value as JSON with sorted keys and without undefined members, shortened to 128
 * bits.
 */
function hashJson(value: unknown): string {
  return createHash("sha256").update(canonicalJson(value)).digest("hex").slice(0, 32);
}

function canonicalJson(value: unknown): string {
  return JSON.stringify(value, (_key, member: unknown) =>
    member !== null && typeof member === "object" && !Array.isArray(member)
      ? Object.fromEntries(Object.entries(member).sort(([a], [b]) => (a < b ? -1 : 1)))
      : member,
  );
}
