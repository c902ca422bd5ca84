import { INFRA_CONTAINER } from "../../../src/agent/container-names.ts";
import type {
  LocalSetSpec,
  ObservedContainer,
  ObservedLocalSet,
} from "../../../src/agent/ports/set-port.ts";
import { specHash } from "../../../src/agent/spec-hash.ts";

/** Of one container: "created", "running", "exited 1" (its exit code), "dead" (lost its network), or "absent". */
export type Standing = "created" | "running" | `exited ${number}` | "dead" | "absent";

/** When the infra container of `observedSet` was started; the others five seconds later, and ended five more later. */
export const infraStartedAtMs = Date.parse("2026-01-01T00:00:00Z");

export interface ObservedSetChanges {
  infra?: Standing;
  /** Business containers ran in an earlier life of the infra container. */
  isEarlierLife?: boolean;
  /** Name of a container that was made for another spec. */
  outdated?: string;
  /** How long the business containers ran before they ended. */
  ranMs?: number;
}

/** A set as the port would show it: all that is in its template, in the given states. */
export function observedSet(
  set: LocalSetSpec,
  standings: Readonly<Record<string, Standing>>,
  changes: ObservedSetChanges = {},
): ObservedLocalSet {
  const { infra = "running", isEarlierLife = false, ranMs = 5_000 } = changes;
  const startedAtMs = infraStartedAtMs + (isEarlierLife ? -50_000 : 5_000);
  const observe = (name: string, standing: Standing, atMs: number): ObservedContainer[] => {
    if (standing === "absent") return [];
    const [state = "", exitCode] = standing.split(" ");
    const hasStarted = standing !== "created";
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
    containers: set.template.containers.flatMap(({ name }) =>
      observe(name, standings[name] ?? "absent", startedAtMs),
    ),
    address: infra === "running" ? "10.0.0.1" : undefined,
  };
}
