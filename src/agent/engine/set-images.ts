import { AgentError, IMAGE_MISSING } from "../base/agent-error.ts";
import { allSettledOrThrow } from "../base/all-settled-or-throw.ts";
import type { LocalSetSpec } from "../model/local-set.ts";
import type { EngineContext } from "./engine-context.ts";

/** A set, and the names of the containers whose images are needed. */
interface SetImages {
  set: LocalSetSpec;
  names: readonly string[];
}

/** Rejects with IMAGE_MISSING, which names the containers, if the daemon lacks images of these. */
export async function requireImages(
  { images }: EngineContext,
  { set, names }: SetImages,
  signal: AbortSignal,
): Promise<void> {
  const { tenant, template } = set;
  const missing = new Set<string>();
  for (const reference of listImages({ set, names }))
    if (!(await images.isUsable({ reference, tenant }, signal))) missing.add(reference);
  const [first] = missing;
  if (first === undefined) return;
  const needing = template.containers.filter(
    ({ name, image }) => names.includes(name) && missing.has(image),
  );
  const containers = needing.map(({ name }) => name);
  throw createMissing(`image "${first}" is not on this host`, containers);
}

/**
 * Rejects with IMAGE_MISSING if the tenant must pull the image of a container first, although the
 * daemon has it.
 */
export async function requireImageAccess(
  { images }: EngineContext,
  { template, tenant }: LocalSetSpec,
  name: string,
  signal: AbortSignal,
): Promise<void> {
  const reference = template.containers.find((container) => container.name === name)?.image;
  if (reference === undefined || !(await images.needsOwnPull({ reference, tenant }, signal)))
    return;
  throw createMissing(
    `image "${reference}" is private: tenant ${tenant} must pull it with its own credential first`,
    [name],
  );
}

function createMissing(message: string, containers: readonly string[]): AgentError {
  return new AgentError(IMAGE_MISSING, message, { phase: "image", temporary: true, containers });
}

/** SetPort.pullImages. */
export async function pullImages(
  { images }: EngineContext,
  needed: SetImages,
  signal: AbortSignal,
): Promise<void> {
  const { tenant } = needed.set;
  await allSettledOrThrow(
    listImages(needed).map(async (reference) => {
      const image = { reference, tenant };
      if (!(await images.isUsable(image, signal))) await images.pull(image, signal);
    }),
  );
}

function listImages({ set, names }: SetImages): string[] {
  const needed = set.template.containers.filter(({ name }) => names.includes(name));
  return [...new Set(needed.map(({ image }) => image))];
}
