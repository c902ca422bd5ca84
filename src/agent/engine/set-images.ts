import { settleAll } from "../base/settle-all.ts";
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
  for (const image of listImages(needed)) if (!(await images.has(image, signal))) return image;
  return undefined;
}

/** SetPort.pullImages. */
export async function pullImages(
  { images }: EngineContext,
  needed: SetImages,
  signal: AbortSignal,
): Promise<void> {
  const { tenant } = needed.set;
  await settleAll(
    listImages(needed).map(async (reference) => {
      if (!(await images.has(reference, signal))) await images.pull({ reference, tenant }, signal);
    }),
  );
}

function listImages({ set, names }: SetImages): string[] {
  const needed = set.template.containers.filter(({ name }) => names.includes(name));
  return [...new Set(needed.map(({ image }) => image))];
}
