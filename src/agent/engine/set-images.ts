import { AgentError, IMAGE_MISSING } from "../base/agent-error.ts";
import { allSettledOrThrow } from "../base/all-settled-or-throw.ts";
import type { LocalSetSpec } from "../model/local-set.ts";
import type { EngineContext } from "./engine-context.ts";

/** A set, and the names of the containers whose images are needed. */
interface SetImages {
  set: LocalSetSpec;
  names: readonly string[];
}

/** The first needed image that the daemon lacks; undefined if it has all of them. */
export async function findMissingImage(
  { images }: EngineContext,
  needed: SetImages,
  signal: AbortSignal,
): Promise<string | undefined> {
  const { tenant } = needed.set;
  for (const reference of listImages(needed))
    if (!(await images.isUsable({ reference, tenant }, signal))) return reference;
  return undefined;
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
  );
}

export function createImageMissing(reference: string): AgentError {
  return createMissing(`image "${reference}" is not on this host`);
}

function createMissing(message: string): AgentError {
  return new AgentError(IMAGE_MISSING, message, { phase: "image", temporary: true });
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
