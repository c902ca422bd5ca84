import type Docker from "dockerode";
import { callDocker } from "./call-docker.ts";

/** What a daemon says of itself, as far as the agent has a use for it. */
export interface DockerInfo {
  CgroupDriver?: string;
  CgroupVersion?: string;
  DockerRootDir?: string;
}

/** With an option that the client's types do not know. */
interface InfoClient {
  info(options: { abortSignal: AbortSignal }): Promise<DockerInfo>;
}

/** Rejects with AgentError. */
export async function readDockerInfo(
  docker: Docker,
  timeoutMs: number,
  signal: AbortSignal,
): Promise<DockerInfo> {
  return callDocker({ phase: "observe", timeoutMs }, signal, (abortSignal) =>
    (docker as unknown as InfoClient).info({ abortSignal }),
  );
}
