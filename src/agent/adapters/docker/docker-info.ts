import type Docker from "dockerode";
import { callDocker } from "./call-docker.ts";

/** The parts of Docker's info that the agent uses. */
export interface DockerInfo {
  CgroupDriver?: string;
  CgroupVersion?: string;
  DockerRootDir?: string;
  /** Its id is "N/A" if Docker cannot execute its init. */
  InitCommit?: { ID?: string };
}

/** The client's types lack this option. */
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
