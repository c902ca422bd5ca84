import { statfs } from "node:fs/promises";
import type Docker from "dockerode";
import type { Log } from "../../../lib/log.ts";
import type { DiskPort, DiskUsage } from "../../ports/disk-port.ts";
import { callDocker, dockerStatus } from "./call-docker.ts";
import { labels } from "./container-labels.ts";
import { measureImageVolumes, type MountingContainer } from "./image-volumes.ts";
import type { DockerRoot } from "./docker-root.ts";
import { toMark, markPulled, pulledReferences } from "./pulled-images.ts";

const measureTimeoutMs = 120_000;
const removeTimeoutMs = 60_000;

export interface DockerDiskOptions {
  docker: Docker;
  hostId: string;
  root: DockerRoot;
  log: Log;
}

/** The answer of `docker system df`, without volumes and build caches. */
interface SystemDf {
  LayersSize: number;
  Images: Pick<Docker.ImageInfo, "Id" | "RepoTags" | "RepoDigests">[] | null;
  Containers:
    | (MountingContainer & {
        ImageID: string;
        SizeRw?: number;
        Labels: Record<string, string> | null;
      })[]
    | null;
}

interface DfClient {
  df(options: { abortSignal: AbortSignal }): Promise<SystemDf>;
}

/** DiskPort on Docker, API 1.41 and newer. */
export function createDockerDisk({ docker, hostId, root, log }: DockerDiskOptions): DiskPort {
  return {
    async measure(signal) {
      await root.find(signal);
      const answer = await callDocker(
        { phase: "observe", timeoutMs: measureTimeoutMs },
        signal,
        // The client's types lack this option.
        (abortSignal) => (docker as unknown as DfClient).df({ abortSignal }),
      );
      const own = (answer.Containers ?? []).filter(
        ({ Labels }) => Labels?.[labels.host] === hostId,
      );
      const volumeBytes = await measureImageVolumes(own, { root: root.folder(), log }, signal);
      return toDiskUsage(answer, own, volumeBytes);
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
  const inUse = new Set(containers.map(({ ImageID }) => ImageID));
  return {
    imageBytes: answer.LayersSize,
    containerBytes: sum([...containers.map(({ SizeRw = 0 }) => SizeRw), ...volumeBytes.values()]),
    rootfsBytes: new Map(
      own.map(({ Id, SizeRw = 0 }) => [Id, SizeRw + (volumeBytes.get(Id) ?? 0)]),
    ),
    pulledImages: (answer.Images ?? []).flatMap((image) =>
      pulledReferences(image).map((reference) => ({ reference, isUsed: inUse.has(image.Id) })),
    ),
  };
}

function sum(amounts: readonly number[]): number {
  return amounts.reduce((total, amount) => total + amount, 0);
}

/**
 * Deletes the mark first. Docker refuses to delete only the last reference to an image that a
 * container uses. An agent that is killed between the two calls leaves an image that is never
 * collected, but deletes none in use.
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
  if (!(await remove(toMark(reference)))) return false;
  if (await remove(reference)) return true;
  await markPulled(docker, reference, signal).catch((error: unknown) => {
    if (dockerStatus(error) !== 404) throw error;
  });
  return false;
}
