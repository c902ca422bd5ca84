import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import type Docker from "dockerode";
import { pack } from "tar-stream";
import { AgentError } from "../../agent/base/agent-error.ts";
import { callDocker, dockerStatus } from "./call-docker.ts";
import { readProgress } from "./progress.ts";
import type { PullImage } from "./pull-image.ts";
import { findImage } from "./find-image.ts";

/** The key of the agent's own pulls in the limit of pulls, which no tenant has. */
const ownTenant = "";
const importTimeoutMs = 60_000;
/** If two agents of a host import the image at the same time, Docker may fail one of the calls. */
const importAttemptsMax = 5;
/** Programs that the infra container's script calls. */
const programs = ["sh", "sed", "sleep"];
/**
 * Increment it when the image changes other than by its BusyBox: the tag is a hash of its content.
 */
const layoutVersion = "1";

/**
 * Ensures that the daemon has the image of infra containers, and returns its reference. That is the
 * configured image, or one with only this machine's static BusyBox.
 */
export async function ensureInfraImage(
  docker: Docker,
  options: { configured: string | undefined; busyboxPath: string; pullImage: PullImage },
  signal: AbortSignal,
): Promise<string> {
  if (options.configured !== undefined) {
    if (!(await findImage(docker, options.configured, signal))) {
      await options.pullImage(options.configured, ownTenant, signal);
    }
    return options.configured;
  }
  const busybox = await readBusybox(options.busyboxPath);
  const tag = createHash("sha256").update(layoutVersion).update(busybox).digest("hex").slice(0, 16);
  const reference = `berth-infra:${tag}`;
  for (let attempt = 1; !(await findImage(docker, reference, signal)); attempt++) {
    try {
      await importImage(docker, { repo: "berth-infra", tag, busybox }, signal);
    } catch (error) {
      if (attempt === importAttemptsMax || !mayBeImportRace(error)) throw error;
    }
  }
  return reference;
}

/**
 * Whether this import may have failed because of another import of the same tag. With the
 * containerd image store, Docker replaces an image in two steps. In between, it answers 404, 409 or
 * 500.
 */
function mayBeImportRace(error: unknown): boolean {
  return [404, 409, 500].includes(dockerStatus(error) ?? 0);
}

async function readBusybox(path: string): Promise<Buffer> {
  try {
    return await readFile(path);
  } catch (error) {
    throw new AgentError(
      "infra-image-missing",
      `no infra image is configured, and ${path} does not exist to build one. Install a static BusyBox (Debian: busybox-static).`,
      { phase: "image", temporary: true, cause: error },
    );
  }
}

async function importImage(
  docker: Docker,
  { repo, tag, busybox }: { repo: string; tag: string; busybox: Buffer },
  signal: AbortSignal,
): Promise<void> {
  const tar = pack();
  const mtime = new Date(0);
  tar.entry({ name: "bin", type: "directory", mode: 0o755, mtime });
  tar.entry({ name: "bin/busybox", mode: 0o755, mtime }, busybox);
  for (const name of programs) {
    tar.entry({ name: `bin/${name}`, type: "symlink", linkname: "busybox", mtime });
  }
  tar.finalize();
  await callDocker({ phase: "image", timeoutMs: importTimeoutMs }, signal, async (abortSignal) => {
    const progress = await docker.importImage(tar as unknown as NodeJS.ReadableStream, {
      repo,
      tag,
      changes: ["ENV PATH=/bin"],
      abortSignal,
    });
    const failure = await readProgress(progress);
    if (failure !== undefined) throw new Error(failure);
  });
}
