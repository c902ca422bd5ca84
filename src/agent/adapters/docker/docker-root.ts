import { stat } from "node:fs/promises";
import type Docker from "dockerode";
import { readDockerInfo } from "./docker-info.ts";

const infoTimeoutMs = 10_000;
export const dockerRootDefault = "/var/lib/docker";

/** The folder where a daemon keeps images and containers. */
export interface DockerRoot {
  /** As far as is known: until the daemon has said it, where Docker keeps them by default, or "/" where there is no such folder. */
  folder(): string;
  /** The device that the folder is on. */
  device(): number;
  /** Asks the daemon unless it has answered before. Rejects with AgentError while it does not answer. */
  find(signal: AbortSignal): Promise<void>;
}

export async function createDockerRoot(docker: Docker): Promise<DockerRoot> {
  let found = await locate(dockerRootDefault);
  let isKnown = false;
  return {
    folder: () => found.folder,
    device: () => found.device,
    async find(signal) {
      if (isKnown) return;
      const { DockerRootDir } = await readDockerInfo(docker, infoTimeoutMs, signal);
      found = await locate(DockerRootDir ?? dockerRootDefault);
      isKnown = true;
    },
  };
}

/** What the daemon calls its folder need not be there for the agent, which may be in a container of its own. */
async function locate(folder: string): Promise<{ folder: string; device: number }> {
  const own = await stat(folder).catch(() => undefined);
  return own ? { folder, device: own.dev } : { folder: "/", device: (await stat("/")).dev };
}
