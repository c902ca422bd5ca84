import type Docker from "dockerode";
import type { z } from "zod";
import { callDocker } from "./call-docker.ts";
import { infoAnswer, parseAnswer } from "./docker-answers.ts";
import { negotiateApi } from "./docker-api.ts";

/** The parts of Docker's info that the agent uses. */
export type DockerInfo = z.output<typeof infoAnswer>;

/** The client's types lack this option. */
interface InfoClient {
  info(options: { abortSignal: AbortSignal }): Promise<unknown>;
}

/** Negotiates the version of the API, and reads the daemon's info. Rejects with AgentError. */
export async function readDockerInfo(
  docker: Docker,
  timeoutMs: number,
  signal: AbortSignal,
): Promise<DockerInfo> {
  await negotiateApi(docker, timeoutMs, signal);
  const answer = await callDocker({ phase: "observe", timeoutMs }, signal, (abortSignal) =>
    (docker as unknown as InfoClient).info({ abortSignal }),
  );
  return parseAnswer(infoAnswer, answer, { call: "GET /info", phase: "observe" });
}
