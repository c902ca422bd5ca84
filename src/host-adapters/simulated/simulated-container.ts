import { INFRA_CONTAINER } from "../../agent/model/container-names.ts";
import type {
  Limits,
  ObservedContainer,
  ObservedLocalSet,
  StopSignalSource,
} from "../../agent/model/local-set.ts";

export interface SimulatedContainer {
  dockerId: string;
  hostId: string;
  setId: string;
  name: string;
  index: number;
  generation: number;
  specHash: string;
  restartGeneration: number;
  stopSignalSource: StopSignalSource | undefined;
  /** For infra: the limits of the set. */
  limits: Limits;
  /** Memory that the container's processes do not release. */
  heldBytes: number;
  state: "created" | "running" | "exited";
  /** The infra container whose network this container joins at its start. */
  infraId: string | undefined;
  /** The number of its starts. */
  starts: number;
  /** The run of infra whose network the container has joined. */
  joinedRun: string | undefined;
  exitCode: number | undefined;
  startedAt: string | undefined;
  finishedAt: string | undefined;
}

/** Infra was restarted since the container started, so its network no longer exists. */
export function isDetached(container: SimulatedContainer, infra: SimulatedContainer): boolean {
  return container.joinedRun !== runOf(infra);
}

export function runOf({ dockerId, starts }: SimulatedContainer): string {
  return `${dockerId}:${starts}`;
}

export function toObservedSet(setId: string, containers: SimulatedContainer[]): ObservedLocalSet {
  const infra = containers.find(({ name }) => name === INFRA_CONTAINER);
  const business = containers
    .filter((container) => container !== infra)
    .sort((a, b) => a.index - b.index || (a.name < b.name ? -1 : 1));
  return {
    setId,
    limits: infra?.limits,
    generation: infra?.generation,
    infra: infra && toObserved(infra, infra),
    infraRun: infra?.state === "running" ? runOf(infra) : undefined,
    containers: business.map((container) => toObserved(container, infra)),
    address: infra?.state === "running" ? "10.0.0.1" : undefined,
  };
}

function toObserved(
  container: SimulatedContainer,
  infra: SimulatedContainer | undefined,
): ObservedContainer {
  const isDead =
    container.state === "running" && infra !== undefined && isDetached(container, infra);
  return {
    name: container.name,
    dockerId: container.dockerId,
    state: isDead ? "dead" : container.state,
    specHash: container.specHash,
    restartGeneration: container.restartGeneration,
    stopSignalSource: container.stopSignalSource,
    exitCode: container.exitCode,
    oomKilled: false,
    oomKills: 0,
    startedAt: container.startedAt,
    finishedAt: container.finishedAt,
    limits: container.limits,
  };
}
