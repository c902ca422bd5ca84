import { statfs } from "node:fs/promises";
import type Docker from "dockerode";
import type { z } from "zod";
import type { Log } from "../../lib/log.ts";
import type { DiskPort, DiskUsage, PulledImage } from "../../agent/ports/disk-port.ts";
import { callDocker, dockerStatus } from "./call-docker.ts";
import { labels } from "./container-labels.ts";
import { containersAnswer, diskAnswer, imagesAnswer, parseAnswer } from "./docker-answers.ts";
import { getDockerJson } from "./docker-api.ts";
import { ImageVolumes } from "./image-volumes.ts";
import type { DockerRoot } from "./docker-root.ts";
import { findImage } from "./find-image.ts";
import { addReference, privateMarksOf } from "./private-images.ts";
import { toMark, pulledReferences } from "./pulled-images.ts";

const measureTimeoutMs = 120_000;
const listTimeoutMs = 20_000;
const removeTimeoutMs = 60_000;

export interface DockerDiskOptions {
  docker: Docker;
  hostId: string;
  root: DockerRoot;
  log: Log;
}

type SystemDf = z.output<typeof diskAnswer>;

/** DiskPort on Docker, API 1.41 and newer. */
export function createDockerDisk({ docker, hostId, root, log }: DockerDiskOptions): DiskPort {
  const imageVolumes = new ImageVolumes({ root: () => root.daemonFolder(), log });
  return {
    async measure(signal) {
      await root.find(signal);
      // Without the types, API 1.42 and newer would also measure volumes and build caches. Older
      // versions ignore them.
      const query = { type: ["container", "image"] };
      const answer = await callDocker(
        { phase: "observe", timeoutMs: measureTimeoutMs },
        signal,
        (abortSignal) => getDockerJson(docker, "/system/df", query, abortSignal),
      );
      const call = { call: "GET /system/df", phase: "observe" as const };
      const parsed = parseAnswer(diskAnswer, answer, call);
      const own = (parsed.Containers ?? []).filter(({ Labels }) => Labels[labels.host] === hostId);
      const volumeBytes = await imageVolumes.measure(own, signal);
      return toDiskUsage(parsed, own, volumeBytes);
    },
    async listPulledImages(signal) {
      await root.find(signal);
      return listPulledImages(docker, signal);
    },
    async usedShare() {
      // Counts the space of an ordinary process: the superuser's reserve is not free.
      const { blocks, bavail } = await statfs(root.folder());
      return 1 - bavail / blocks;
    },
    removeImage: (reference, signal) => removeImage(docker, reference, signal),
  };
}

/** @param own the containers of this host's sets */
function toDiskUsage(
  answer: SystemDf,
  own: NonNullable<SystemDf["Containers"]>,
  volumeBytes: ReadonlyMap<string, number>,
): DiskUsage {
  const containers = answer.Containers ?? [];
  return {
    imageBytes: answer.LayersSize,
    containerBytes: sum([...containers.map(({ SizeRw }) => SizeRw), ...volumeBytes.values()]),
    rootfsBytes: new Map(own.map(({ Id, SizeRw }) => [Id, SizeRw + (volumeBytes.get(Id) ?? 0)])),
  };
}

function sum(amounts: readonly number[]): number {
  return amounts.reduce((total, amount) => total + amount, 0);
}

/** Lists images first, so that an image whose container is created meanwhile counts as used. */
async function listPulledImages(docker: Docker, signal: AbortSignal): Promise<PulledImage[]> {
  const call = { phase: "image" as const, timeoutMs: listTimeoutMs };
  const images = parseAnswer(
    imagesAnswer,
    await callDocker(call, signal, (abortSignal) => docker.listImages({ abortSignal })),
    { call: "GET /images/json", phase: "image" },
  );
  const containers = parseAnswer(
    containersAnswer,
    await callDocker(call, signal, (abortSignal) =>
      docker.listContainers({ all: true, abortSignal }),
    ),
    { call: "GET /containers/json", phase: "image" },
  );
  const inUse = new Set(containers.map(({ ImageID }) => ImageID));
  return images.flatMap((image) =>
    pulledReferences(image).map((reference) => ({ reference, isUsed: inUse.has(image.Id) })),
  );
}

/**
 * Deletes the name first and the mark of the pull last. Without its name no tenant can use the
 * image, and an agent that is killed between the calls makes no private image public. Docker
 * refuses to delete only the last reference to an image that a container uses.
 */
async function removeImage(
  docker: Docker,
  reference: string,
  signal: AbortSignal,
): Promise<boolean> {
  const remove = async (name: string): Promise<boolean> => {
    try {
      await callDocker({ phase: "image", timeoutMs: removeTimeoutMs }, signal, (abortSignal) =>
        docker.getImage(name).remove({ force: false, abortSignal }),
      );
      return true;
    } catch (error) {
      const status = dockerStatus(error);
      if (status === 404 || status === 409) return false;
      throw error;
    }
  };
  const image = await findImage(docker, reference, signal);
  const pulledMark = toMark(reference);
  if (!image?.references.includes(pulledMark)) return false;
  if (await isUsed(docker, image.id, signal)) return false;
  if (!(await remove(reference))) return false;
  const privateMarks = privateMarksOf(image.references, reference);
  for (const mark of privateMarks) await remove(mark);
  if (await remove(pulledMark)) return true;
  // A container was created since. No call of Docker restores a digest.
  const restored = reference.includes("@") ? privateMarks : [...privateMarks, reference];
  for (const name of restored) {
    await addReference(docker, pulledMark, name, signal).catch((error: unknown) => {
      if (dockerStatus(error) !== 404) throw error;
    });
  }
  return false;
}

async function isUsed(docker: Docker, imageId: string, signal: AbortSignal): Promise<boolean> {
  const answer = await callDocker(
    { phase: "image", timeoutMs: listTimeoutMs },
    signal,
    (abortSignal) => docker.listContainers({ all: true, abortSignal }),
  );
  const call = { call: "GET /containers/json", phase: "image" as const };
  return parseAnswer(containersAnswer, answer, call).some(({ ImageID }) => ImageID === imageId);
}
