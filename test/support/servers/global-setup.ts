import type { TestProject } from "vitest/node";
import { ensureBaseImage, ensureDocker } from "../docker/docker.ts";
import {
  type DockerVersion,
  type ImageStore,
  startPrivateDocker,
} from "../docker/private-docker.ts";
import { removeDeadTraces } from "../network/machine-traces.ts";
import { startServices } from "./test-services.ts";

/**
 * Runs once before the files of a project. It starts Postgres and Redis, and prepares Docker with
 * the base image for the projects that start containers. Vitest calls the returned function after
 * the last file. First it removes what killed runs have left in the network of the machine.
 *
 * BERTH_TEST_DOCKER replaces the machine's Docker: "26", "28", or "28-containerd" with containerd's
 * image store.
 */
export async function setup(project: TestProject): Promise<() => Promise<void>> {
  const needsDocker = project.name === "agent" || project.name === "e2e";
  if (needsDocker || project.name === "network") await removeDeadTraces();
  const [services, closeDocker] = await Promise.all([
    startServices(process.env),
    needsDocker ? prepareDocker(process.env["BERTH_TEST_DOCKER"]) : undefined,
  ]);
  project.provide("services", services.urls);
  return async () => {
    await closeDocker?.();
    await services.stop();
  };
}

/** Returns a function that ends the daemon, unless it is the machine's. */
async function prepareDocker(selected = ""): Promise<(() => Promise<void>) | undefined> {
  if (selected === "") {
    await ensureDocker();
    return undefined;
  }
  const [, version, imageStore] = /^(26|28)(?:-(containerd))?$/.exec(selected) ?? [];
  if (version === undefined) throw new Error(`unknown BERTH_TEST_DOCKER "${selected}"`);
  const daemon = await startPrivateDocker({
    version: version as DockerVersion,
    imageStore: (imageStore ?? "docker") as ImageStore,
  });
  await ensureBaseImage(daemon.docker);
  // The workers start later, with this environment.
  process.env["DOCKER_HOST"] = `unix://${daemon.socketPath}`;
  return () => daemon.close();
}
