import type Docker from "dockerode";
import { callDocker, dockerStatus } from "./call-docker.ts";
import { imageAnswer, parseAnswer } from "./docker-answers.ts";

const inspectTimeoutMs = 10_000;

/** All names of an image of the daemon: its tags and digests. */
export interface ImageReferences {
  id: string;
  references: string[];
}

/** Finds an image of the daemon by any of its names or its id; undefined if the daemon lacks it. */
export async function findImage(
  docker: Docker,
  reference: string,
  signal: AbortSignal,
): Promise<ImageReferences | undefined> {
  try {
    const answer = await callDocker({ phase: "image", timeoutMs: inspectTimeoutMs }, signal, () =>
      docker.getImage(reference).inspect(),
    );
    const call = { call: "GET /images/{name}/json", phase: "image" as const };
    const { Id, RepoTags, RepoDigests } = parseAnswer(imageAnswer, answer, call);
    return { id: Id, references: [...RepoTags, ...RepoDigests] };
  } catch (error) {
    if (dockerStatus(error) === 404) return undefined;
    throw error;
  }
}
