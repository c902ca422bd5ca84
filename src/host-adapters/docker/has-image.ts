import type Docker from "dockerode";
import { callDocker, dockerStatus } from "./call-docker.ts";

const inspectTimeoutMs = 10_000;

/** True if the daemon has the image. */
export async function hasImage(
  docker: Docker,
  reference: string,
  signal: AbortSignal,
): Promise<boolean> {
  try {
    await callDocker({ phase: "image", timeoutMs: inspectTimeoutMs }, signal, () =>
      docker.getImage(reference).inspect(),
    );
    return true;
  } catch (error) {
    if (dockerStatus(error) === 404) return false;
    throw error;
  }
}
