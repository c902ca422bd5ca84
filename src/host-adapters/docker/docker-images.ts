import type Docker from "dockerode";
import { IMAGES_PER_HOST_MAX } from "../../contracts/agent-protocol/sync.ts";
import { AgentError } from "../../agent/base/agent-error.ts";
import { familiarName } from "../../agent/model/image-name.ts";
import type { RegistryCredentials } from "../../agent/model/registry-credentials.ts";
import type { ImagePort } from "../../agent/ports/image-port.ts";
import type { Log } from "../../lib/log.ts";
import { callDocker } from "./call-docker.ts";
import { imagesAnswer, parseAnswer } from "./docker-answers.ts";
import { findImage, type ImageReferences } from "./find-image.ts";
import { ensureInfraImage } from "./infra-image.ts";
import { isPrivateMark, isUsableBy } from "./private-images.ts";
import { createPullImage } from "./pull-image.ts";
import { createMarkingPull, isMark, toMark } from "./pulled-images.ts";
import { rememberSuccess } from "./remember-success.ts";

const listTimeoutMs = 20_000;

export interface DockerImagesOptions {
  docker: Docker;
  log: Log;
  /**
   * Reference of the infra image. Without it, the adapter builds one from the BusyBox at
   * `busyboxPath`.
   */
  infraImage?: string | undefined;
  /** A statically linked BusyBox. */
  busyboxPath: string;
  /** Deadline of a pull that makes no progress. */
  pullIdleTimeoutMs?: number | undefined;
  /** Credentials of private registries. Without them, all pulls are anonymous. */
  registryCredentials?: RegistryCredentials | undefined;
}

/** ImagePort on Docker. It marks the images that it pulls (pulled-images.ts). */
export function createDockerImages(options: DockerImagesOptions): ImagePort {
  const { docker, log, busyboxPath } = options;
  const pullImage = createPullImage(docker, options);
  const markingPull = createMarkingPull(docker, pullImage, log);
  const { signal } = new AbortController();
  const infra = rememberSuccess(() => {
    const wanted = { configured: options.infraImage, busyboxPath, pullImage };
    return ensureInfraImage(docker, wanted, signal);
  });
  const privateImages = rememberSuccess(async () =>
    (await listDockerImages(docker, signal)).some(({ RepoTags }) => RepoTags.some(isPrivateMark)),
  );
  privateImages.get().catch(() => undefined); // the first call asks again
  const hasCredentials = (reference: string) =>
    options.registryCredentials?.hasRegistryOf(reference) ?? false;
  const findAccess = async (wanted: { reference: string; tenant: string }, call: AbortSignal) => {
    const image = await findImage(docker, wanted.reference, call);
    if (!image) return "absent";
    const known = { ...wanted, hasCredentials: hasCredentials(wanted.reference) };
    return isUsableBy(image, known) ? "usable" : "refused";
  };
  const pull: ImagePort["pull"] = async ({ reference, tenant }, call) => {
    const access = await markingPull(reference, tenant, call);
    if (access === "credential") privateImages.forget();
  };
  /** An image that a user loaded or built, and that this agent has never pulled by this name. */
  const isLocal = async (wanted: { reference: string; tenant: string }, call: AbortSignal) => {
    if ((await findAccess(wanted, call)) !== "usable") return false;
    const image = await findImage(docker, wanted.reference, call);
    return image?.references.includes(toMark(wanted.reference)) === false;
  };
  return {
    async needsOwnPull(wanted, callSignal) {
      const { reference } = wanted;
      if (!mayBeId(reference) && !hasCredentials(reference) && !(await privateImages.get()))
        return false;
      return (await findAccess(wanted, callSignal)) === "refused";
    },
    isUsable: async (wanted, callSignal) => (await findAccess(wanted, callSignal)) === "usable",
    pull,
    async prefetch(wanted, callSignal) {
      const { reference } = wanted;
      const isPinned = reference.includes("@");
      if (!isPinned || (await findAccess(wanted, callSignal)) !== "usable") {
        try {
          await pull(wanted, callSignal);
        } catch (error) {
          if (!(await isLocal(wanted, callSignal))) throw error;
        }
      }
      const image = await findImage(docker, reference, callSignal);
      if (!image) throw createPulledMissing(reference);
      return { imageId: image.id, digest: findDigest(image, reference) };
    },
    list: (callSignal) => listImages(docker, callSignal),
    infraImage: infra.get,
    restoreInfraImage: infra.renew,
  };
}

/** The digest by which the registry of this reference has the image, if the agent pulled it. */
function findDigest({ references }: ImageReferences, reference: string): string | undefined {
  if (!references.includes(toMark(reference))) return undefined;
  const prefix = `${familiarName(reference)
    .replace(/@.*$/, "")
    .replace(/:[^/:]*$/, "")}@`;
  return references.find((name) => name.startsWith(prefix))?.slice(prefix.length);
}

function createPulledMissing(reference: string): AgentError {
  const message = `image "${reference}" is pulled, but Docker does not find it. The agent retries.`;
  return new AgentError("image-unavailable", message, { phase: "image", temporary: true });
}

/** Docker finds an image also by its id, and by the first digits of it. */
function mayBeId(reference: string): boolean {
  return /^(?:sha256:)?[0-9a-f]+$/.test(reference);
}

/**
 * The tags and digests of all images. A template may name either. If there are too many, digests
 * are missing first.
 */
async function listImages(docker: Docker, signal: AbortSignal): Promise<string[]> {
  const images = await listDockerImages(docker, signal);
  const toNames = (references: string[]) =>
    [...new Set(references)].filter((name) => !name.startsWith("<none>") && !isMark(name)).sort();
  const tags = toNames(images.flatMap(({ RepoTags }) => RepoTags));
  const digests = toNames(images.flatMap(({ RepoDigests }) => RepoDigests));
  return [...tags, ...digests].slice(0, IMAGES_PER_HOST_MAX).sort();
}

async function listDockerImages(docker: Docker, signal: AbortSignal) {
  const answer = await callDocker(
    { phase: "image", timeoutMs: listTimeoutMs },
    signal,
    (abortSignal) => docker.listImages({ abortSignal }),
  );
  const call = { call: "GET /images/json", phase: "image" as const };
  return parseAnswer(imagesAnswer, answer, call);
}
