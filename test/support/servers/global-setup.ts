import type { TestProject } from "vitest/node";
import { ensureDocker } from "../docker/docker.ts";
import { startServices } from "./test-services.ts";

/**
 * Runs once before the files of a project. It starts Postgres and Redis, and prepares Docker with
 * the base image for the projects that start containers. Vitest calls the returned function after
 * the last file.
 */
export async function setup(project: TestProject): Promise<() => Promise<void>> {
  const needsDocker = project.name === "agent" || project.name === "e2e";
  const [services] = await Promise.all([
    startServices(process.env),
    needsDocker ? ensureDocker() : undefined,
  ]);
  project.provide("services", services.urls);
  return () => services.stop();
}
