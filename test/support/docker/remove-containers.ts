import type Docker from "dockerode";
import { waitUntil } from "../wait-until.ts";

/**
 * Removes all containers, or those with the label, without a stop. If an agent is removing one, it
 * waits for the end of that removal.
 */
export async function removeContainers(docker: Docker, label?: string): Promise<void> {
  const filters = label === undefined ? {} : { label: [label] };
  const left = await docker.listContainers({ all: true, filters });
  await Promise.all(
    left.map(({ Id }) =>
      waitUntil(`Docker removes the container ${Id}`, () => tryRemove(docker, Id), {
        everyMs: 100,
      }),
    ),
  );
}

async function tryRemove(docker: Docker, id: string): Promise<boolean> {
  try {
    await docker.getContainer(id).remove({ force: true, v: true });
    return true;
  } catch (error) {
    const { statusCode, message } = error as { statusCode?: number; message?: string };
    if (statusCode === 404) return true;
    if (statusCode === 409 && message?.includes("already in progress")) return false;
    throw error;
  }
}
