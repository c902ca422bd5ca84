import type { ContainerTemplate } from "../../contracts/api/set-template.ts";
import type { LocalSetSpec, StopSignalSource } from "./local-set.ts";

/** A set with the hashes of its containers by name (see `specHash`). */
export interface HashedSetSpec extends LocalSetSpec {
  specHashes: Readonly<Record<string, string>>;
}

/** The facts of a container's creation, which its labels record. */
export interface CreatedContainer {
  specHash: string;
  restartGeneration: number;
  stopSignalSource?: StopSignalSource | undefined;
}

/**
 * True if a container differs from the spec, so that only a new container can have it. Throws
 * RangeError for a name that is not in the template.
 */
export function isOutdated(set: HashedSetSpec, name: string, created: CreatedContainer): boolean {
  const hash = set.specHashes[name];
  if (hash === undefined) throw new RangeError(`the set's template has no container "${name}"`);
  if (created.restartGeneration < set.restartGeneration) return true;
  if (created.specHash !== hash) return true;
  // Earlier releases recorded no source. Their containers run on with SIGTERM.
  if (created.stopSignalSource === undefined) return false;
  const template = set.template.containers.find((container) => container.name === name);
  return template !== undefined && created.stopSignalSource !== stopSignalSource(template);
}

export function stopSignalSource({ options }: ContainerTemplate): StopSignalSource {
  return options.stopSignal === undefined ? "image" : "template";
}
