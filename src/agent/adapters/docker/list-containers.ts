import type { AgentPhase } from "../../agent-error.ts";
import { callDocker } from "./call-docker.ts";
import { labels, parseListed, type ListedContainer } from "./container-labels.ts";
import type { DockerContext } from "./docker-context.ts";

const listTimeoutMs = 20_000;

/**
 * Lists the containers of this host's sets, or of one set, in one call to the daemon (about 1 ms
 * for a set).
 */
export async function listContainers(
  { docker, hostId }: Pick<DockerContext, "docker" | "hostId">,
  { setId, phase }: { setId?: string; phase: AgentPhase },
  signal: AbortSignal,
): Promise<ListedContainer[]> {
  const label = [`${labels.host}=${hostId}`];
  if (setId !== undefined) label.push(`${labels.set}=${setId}`);
  const infos = await callDocker({ phase, timeoutMs: listTimeoutMs }, signal, (abortSignal) =>
    docker.listContainers({ all: true, filters: { label }, abortSignal }),
  );
  return infos
    .map((info) => parseListed(hostId, info))
    .filter((container) => container !== undefined)
    .sort((a, b) => a.index - b.index || (a.name < b.name ? -1 : 1));
}
