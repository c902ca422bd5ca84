import type Docker from "dockerode";
import { dockerName } from "../../../src/host-adapters/docker/container-labels.ts";

/** Runs a shell command in a container of a set and returns its combined output. */
export async function execIn(
  docker: Docker,
  { setId, container }: { setId: string; container: string },
  command: string,
): Promise<string> {
  const exec = await docker.getContainer(dockerName(setId, container)).exec({
    Cmd: ["/bin/sh", "-c", command],
    AttachStdout: true,
    AttachStderr: true,
    Tty: true, // without frames
  });
  let output = "";
  for await (const chunk of await exec.start({ Tty: true })) output += String(chunk);
  return output.trim();
}
