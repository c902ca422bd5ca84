import { stat } from "node:fs/promises";
import type Docker from "dockerode";
import { readDockerInfo } from "./docker-info.ts";
import { dockerRootDefault, findImageFolder } from "./image-folder.ts";

const infoTimeoutMs = 10_000;

/** The folder of a daemon's images and of the root file systems of its containers. */
export interface DockerRoot {
  /**
   * The folder as far as it is known. Before the daemon answers, it is Docker's default, or "/" if
   * that does not exist.
   */
  folder(): string;
  /** Docker's own folder, which has its volumes. */
  daemonFolder(): string;
  /** The device of the folder. */
  device(): number;
  /**
   * Queries the daemon unless it has answered before. Rejects with AgentError while it does not
   * answer.
   */
  find(signal: AbortSignal): Promise<void>;
}

export async function createDockerRoot(docker: Docker): Promise<DockerRoot> {
  let found = await locate(dockerRootDefault);
  let daemonFolder = dockerRootDefault;
  let isKnown = false;
  return {
    folder: () => found.folder,
    daemonFolder: () => daemonFolder,
    device: () => found.device,
    async find(signal) {
      if (isKnown) return;
      const info = await readDockerInfo(docker, infoTimeoutMs, signal);
      daemonFolder = info.DockerRootDir ?? dockerRootDefault;
      found = await locate(await findImageFolder(info));
      isKnown = true;
    },
  };
}

/** The agent may run in a container without Docker's folder. */
async function locate(folder: string): Promise<{ folder: string; device: number }> {
  const own = await stat(folder).catch(() => undefined);
  return own ? { folder, device: own.dev } : { folder: "/", device: (await stat("/")).dev };
}
