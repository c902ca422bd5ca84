import type { TestProject } from "vitest/node";
import { ensureDocker } from "../docker/docker.ts";
import { startServices } from "./test-services.ts";

/**
 * Runs once before a project's files: real Postgres and Redis for all but the unit tests, and a real Docker daemon
 * with the base image for those that start containers. What it returns runs after the last file.
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
