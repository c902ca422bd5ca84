import { createHash } from "node:crypto";
import type Docker from "dockerode";
import { AgentError } from "../../agent/base/agent-error.ts";
import { familiarName } from "../../agent/model/image-name.ts";
import type { Log } from "../../lib/log.ts";
import { addReference, recordAccess } from "./private-images.ts";
import type { PullImage } from "./pull-image.ts";

const markName = "berth-pulled";

/**
 * The mark of an image that this agent pulled: a second reference in the daemon, "berth-pulled:"
 * and a hash of the first. Only marked images are collected (I4), and no file records them. An
 * image that a user loaded, built or pulled has no mark, or a mark for another reference.
 */
export function toMark(reference: string): string {
  const hash = createHash("sha256").update(familiarName(reference)).digest("hex").slice(0, 32);
  return `${markName}:${hash}`;
}

/** True for a mark, and for the digest that containerd's image store gives it. */
export function isMark(reference: string): boolean {
  return /^berth-(?:pulled|private)[:@]/.test(reference);
}

/** The references that the agent pulled this image by. */
export function pulledReferences(image: {
  RepoTags?: string[] | null | undefined;
  RepoDigests?: string[] | null | undefined;
}): string[] {
  const references = [...(image.RepoTags ?? []), ...(image.RepoDigests ?? [])];
  return references.filter((reference) => references.includes(toMark(reference)));
}

/**
 * Pulls an image and marks it. A pull by credential whose mark cannot be recorded fails, so that a
 * retry records it. An image without the mark of a pull works, but is never collected.
 */
export function createMarkingPull(docker: Docker, pullImage: PullImage, log: Log): PullImage {
  return async (reference, tenant, signal) => {
    const access = await pullImage(reference, tenant, signal);
    const isAnonymous = access === "anonymous";
    await recordAccess(docker, { reference, tenant, isAnonymous }, signal).catch(
      (error: unknown) => {
        if (!isAnonymous) throw toRecordError(reference, error);
        log.error({ err: error, image: reference }, "cannot record who may use the image");
      },
    );
    await markPulled(docker, reference, signal).catch((error: unknown) => {
      log.warn(
        { err: error, image: reference },
        "cannot mark the image, so it will not be garbage-collected",
      );
    });
    return access;
  };
}

function toRecordError(reference: string, cause: unknown): AgentError {
  const message = `image "${reference}" is pulled, but Docker did not record who may use it. The agent retries.`;
  return new AgentError("image-unavailable", message, { phase: "image", temporary: true, cause });
}

async function markPulled(docker: Docker, reference: string, signal: AbortSignal): Promise<void> {
  await addReference(docker, reference, toMark(reference), signal);
}
