import { INFRA_CONTAINER } from "../../../src/agent/model/container-names.ts";
import type {
  LocalSetSpec,
  ObservedContainer,
  ObservedLocalSet,
} from "../../../src/agent/model/local-set.ts";
import { specHash } from "../../../src/agent/model/spec-hash.ts";

/**
 * The state of one container: "created", "running", "exited 1" (its exit code), "dead" (lost its
 * network), or "absent".
 */
export type ContainerStateText = "created" | "running" | `exited ${number}` | "dead" | "absent";

/**
 * Start time of the infra container of `observedSet`. The others start five seconds later, and exit
 * after five more.
 */
export const infraStartedAtMs = Date.parse("2026-01-01T00:00:00Z");

export interface ObservedSetChanges {
  infra?: ContainerStateText;
  /** True if the business containers ran in an earlier run of the infra container. */
  isEarlierRun?: boolean;
  /** Name of a container with an outdated spec. */
  outdated?: string;
  /** Run time of the business containers before they exited. */
  ranMs?: number;
}

/** Returns a set like the port observes it: the containers of its template, in the given states. */
export function observedSet(
  set: LocalSetSpec,
  stateTexts: Readonly<Record<string, ContainerStateText>>,
  changes: ObservedSetChanges = {},
): ObservedLocalSet {
  const { infra = "running", isEarlierRun = false, ranMs = 5_000 } = changes;
  const startedAtMs = infraStartedAtMs + (isEarlierRun ? -50_000 : 5_000);
  const observe = (
    name: string,
    stateText: ContainerStateText,
    atMs: number,
  ): ObservedContainer[] => {
    if (stateText === "absent") return [];
    const [state = "", exitCode] = stateText.split(" ");
    const hasStarted = stateText !== "created";
    return [
      {
        name,
        dockerId: `${name}-id`,
        state: state as ObservedContainer["state"],
        specHash: changes.outdated === name ? "another" : specHash(set, name),
        restartGeneration: set.restartGeneration,
        exitCode: exitCode === undefined ? undefined : Number(exitCode),
        oomKilled: false,
        oomKills: 0,
        startedAt: hasStarted ? new Date(atMs).toISOString() : undefined,
        finishedAt: state === "exited" ? new Date(atMs + ranMs).toISOString() : undefined,
      },
    ];
  };
  return {
    setId: set.setId,
    generation: set.generation,
    infra: observe(INFRA_CONTAINER, infra, infraStartedAtMs)[0],
    infraRun: infra === "running" ? "infra-run" : undefined,
    containers: set.template.containers.flatMap(({ name }) =>
      observe(name, stateTexts[name] ?? "absent", startedAtMs),
    ),
    address: infra === "running" ? "10.0.0.1" : undefined,
  };
}
