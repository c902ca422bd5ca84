import { stat } from "node:fs/promises";
import type Docker from "dockerode";
import { readDockerInfo } from "./docker-info.ts";
import { dockerFolder, findImageFolder } from "./image-folder.ts";

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
   * Queries the daemon, which may have changed its image store since. Rejects with AgentError while
   * it does not answer.
   */
  find(signal: AbortSignal): Promise<void>;
}

export async function createDockerRoot(docker: Docker): Promise<DockerRoot> {
  let daemonFolder = dockerFolder({});
  let found = await locate(daemonFolder);
  return {
    folder: () => found.folder,
    daemonFolder: () => daemonFolder,
    device: () => found.device,
    async find(signal) {
      const info = await readDockerInfo(docker, infoTimeoutMs, signal);
      daemonFolder = dockerFolder(info);
      found = await locate(await findImageFolder(info));
    },
  };
}

/** The agent may run in a container without Docker's folder. */
async function locate(folder: string): Promise<{ folder: string; device: number }> {
  const own = await stat(folder).catch(() => undefined);
  return own ? { folder, device: own.dev } : { folder: "/", device: (await stat("/")).dev };
}
