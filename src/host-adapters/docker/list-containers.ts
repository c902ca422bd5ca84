import type { AgentPhase } from "../../agent/base/agent-error.ts";
import { callDocker } from "./call-docker.ts";
import type { ListedContainer } from "../../agent/ports/container-port.ts";
import { labels, parseListed } from "./container-labels.ts";
import { containersAnswer, parseAnswer } from "./docker-answers.ts";
import type { DockerContext } from "./docker-context.ts";

const listTimeoutMs = 20_000;

/**
 * Lists the containers of this host's sets, or of one set, in one call to the daemon (about 0.5 ms
 * for a set). It names the containers of a set that the index knows, except for a removal, which
 * must find every container.
 */
export async function listContainers(
  { docker, hostId, index }: Pick<DockerContext, "docker" | "hostId" | "index">,
  { setId, phase }: { setId?: string; phase: AgentPhase },
  signal: AbortSignal,
): Promise<ListedContainer[]> {
  const label = [`${labels.host}=${hostId}`];
  if (setId !== undefined) label.push(`${labels.set}=${setId}`);
  const ids = setId === undefined || phase === "remove" ? undefined : index.idsOf(setId);
  if (ids?.length === 0) return [];
  const filters = ids ? { label, id: [...ids] } : { label };
  const endList = ids ? undefined : index.beginList(setId);
  const answer = await callDocker({ phase, timeoutMs: listTimeoutMs }, signal, (abortSignal) =>
    docker.listContainers({ all: true, filters, abortSignal }),
  );
  const listed = parseAnswer(containersAnswer, answer, { call: "GET /containers/json", phase })
    .map((info) => parseListed(hostId, info))
    .filter((container) => container !== undefined)
    .sort((a, b) => a.index - b.index || (a.name < b.name ? -1 : 1));
  endList?.(listed);
  return listed;
}
