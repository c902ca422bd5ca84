import { createHash } from "node:crypto";
import type Docker from "dockerode";
import { familiarName } from "../../image-name.ts";
import type { Log } from "../../../lib/log.ts";
import { callDocker } from "./call-docker.ts";
import type { PullImage } from "./pull-image.ts";

const markTimeoutMs = 20_000;
const markName = "berth-pulled";

/**
 * What this agent pulled is marked in the daemon itself, with a second reference to the image: "berth-pulled:" and a hash of the
 * first. Nothing else may be collected (I4), and no file has to be kept for it: an image that somebody loaded,
 * built or pulled by hand has no mark, or one for another reference.
 */
export function markOf(reference: string): string {
  const hash = createHash("sha256").update(familiarName(reference)).digest("hex").slice(0, 32);
  return `${markName}:${hash}`;
}

export function isMark(reference: string): boolean {
  return reference.startsWith(`${markName}:`);
}

/** References of an image that it was pulled by. */
export function pulledReferences(image: {
  RepoTags?: string[] | null | undefined;
  RepoDigests?: string[] | null | undefined;
}): string[] {
  const references = [...(image.RepoTags ?? []), ...(image.RepoDigests ?? [])];
  return references.filter((reference) => references.includes(markOf(reference)));
}

/** Pulls, and marks what it has pulled. Without its mark an image is as good, and stays for ever. */
export function createMarkingPull(docker: Docker, pullImage: PullImage, log: Log): PullImage {
  return async (reference, signal) => {
    await pullImage(reference, signal);
    await markPulled(docker, reference, signal).catch((error: unknown) => {
      log.warn({ err: error, image: reference }, "image not marked, so it will not be collected");
    });
  };
}

export async function markPulled(
  docker: Docker,
  reference: string,
  signal: AbortSignal,
): Promise<void> {
  const [repo = "", tag = ""] = markOf(reference).split(":");
  await callDocker({ phase: "image", timeoutMs: markTimeoutMs }, signal, (abortSignal) =>
    docker.getImage(reference).tag({ repo, tag, abortSignal }),
  );
}
