import type Docker from "dockerode";
import type { LocalSetSpec } from "../../agent/model/local-set.ts";
import { callDocker, dockerStatus, settleAll } from "./call-docker.ts";
import type { DockerContext } from "./docker-context.ts";

const inspectTimeoutMs = 10_000;

/** A set, and the names of its containers that need not be created. */
interface SetImages {
  set: LocalSetSpec;
  completed: readonly string[];
}

/** The first image that the set needs and the daemon lacks; undefined if it has all of them. */
export async function findMissingImage(
  { docker }: Pick<DockerContext, "docker">,
  needed: SetImages,
  signal: AbortSignal,
): Promise<string | undefined> {
  for (const image of listImages(needed))
    if (!(await hasImage(docker, image, signal))) return image;
  return undefined;
}

/** SetPort.pullImages on Docker. */
export async function pullImages(
  { docker, pullImage }: Pick<DockerContext, "docker" | "pullImage">,
  needed: SetImages,
  signal: AbortSignal,
): Promise<void> {
  await settleAll(
    listImages(needed).map(async (image) => {
      if (!(await hasImage(docker, image, signal)))
        await pullImage(image, needed.set.tenant, signal);
    }),
  );
}

export async function hasImage(
  docker: Docker,
  reference: string,
  signal: AbortSignal,
): Promise<boolean> {
  try {
    await callDocker({ phase: "image", timeoutMs: inspectTimeoutMs }, signal, () =>
      docker.getImage(reference).inspect(),
    );
    return true;
  } catch (error) {
    if (dockerStatus(error) === 404) return false;
    throw error;
  }
}

function listImages({ set, completed }: SetImages): string[] {
  const needed = set.template.containers.filter(({ name }) => !completed.includes(name));
  return [...new Set(needed.map(({ image }) => image))];
}
