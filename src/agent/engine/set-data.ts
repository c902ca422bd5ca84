import { AgentError } from "../base/agent-error.ts";
import type { LocalSetSpec } from "../model/local-set.ts";
import type { EngineContext } from "./engine-context.ts";

/** The host's path of the set's data once its volume is mounted; undefined without a volume. */
export function findDataPath({ volumes }: EngineContext, set: LocalSetSpec): string | undefined {
  if (set.template.volume === null) return undefined;
  if (volumes) return volumes.getDataPath(set);
  throw new AgentError(
    "not-supported",
    "this host has no volumes: the operator must set BERTH_VOLUME_BACKEND, or the service must use another pool",
    { phase: "prepare", temporary: false },
  );
}
