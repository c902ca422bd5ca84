import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type Docker from "dockerode";
import { findFreePort, startChildServer } from "./child-server.ts";
import { waitUntil } from "../wait-until.ts";

export interface ImageRegistry {
  /** Host and port, as in image references. */
  address: string;
  /** Pushes an image of the daemon, and removes the new reference from the daemon. */
  take(docker: Docker, reference: string): Promise<void>;
  close(): Promise<void>;
}

/** An empty real registry. */
export async function startImageRegistry(): Promise<ImageRegistry> {
  const directory = await mkdtemp(join(tmpdir(), "berth-registry-"));
  const address = `127.0.0.1:${await findFreePort()}`;
  const config = {
    version: "0.1",
    storage: { filesystem: { rootdirectory: directory } },
    http: { addr: address },
  };
  await writeFile(join(directory, "config.yml"), JSON.stringify(config)); // JSON is YAML
  const server = startChildServer("docker-registry", ["serve", join(directory, "config.yml")]);
  await waitUntil("the registry answers", async () => (await fetch(`http://${address}/v2/`)).ok);
  return {
    address,
    async take(docker, reference) {
      const image = docker.getImage(reference);
      const progress = await image.push({ authconfig: { serveraddress: address } });
      for await (const chunk of progress) {
        if (String(chunk).includes('"error"')) throw new Error(String(chunk));
      }
      await image.remove({ force: true });
    },
    async close() {
      await server.kill();
      await rm(directory, { recursive: true });
    },
  };
}
