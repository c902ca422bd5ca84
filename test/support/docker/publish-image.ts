import { randomBytes } from "node:crypto";
import type Docker from "dockerode";
import { pack } from "tar-stream";
import type { ImageRegistry } from "../servers/image-registry.ts";
import { baseImage } from "./docker.ts";

/** Publishes an image with content of its own, which only the registry has. */
export async function publishUniqueImage(
  docker: Docker,
  registry: ImageRegistry,
  name: string,
): Promise<string> {
  const repo = `${registry.address}/${name}`;
  const container = await docker.createContainer({ Image: baseImage, Cmd: ["true"] });
  const tar = pack();
  tar.entry({ name: "unique" }, randomBytes(16).toString("hex"));
  tar.finalize();
  await container.putArchive(tar as unknown as NodeJS.ReadableStream, { path: "/" });
  await container.commit({ repo, tag: "1" });
  await container.remove();
  await registry.take(docker, `${repo}:1`);
  return `${repo}:1`;
}
