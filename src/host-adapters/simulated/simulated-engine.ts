import { createHash } from "node:crypto";
import { AgentError } from "../../agent/base/agent-error.ts";
import type { Clock } from "../../agent/base/clock.ts";
import { INFRA_CONTAINER } from "../../agent/model/container-names.ts";
import type {
  Limits,
  LocalSetSpec,
  ObservedLocalSet,
  ProbeResult,
} from "../../agent/model/local-set.ts";
import { containerLimits, setLimits } from "../../agent/model/set-limits.ts";
import { stopSignalSource } from "../../agent/model/outdated.ts";
import { isContainerOutdated, specHash } from "../../agent/model/spec-hash.ts";
import type { ContainerFailure } from "../../agent/model/local-set.ts";
import { createImageMissing, createImageNotFound, createNotPrepared } from "./simulated-errors.ts";
import {
  isDetached,
  runOf,
  type SimulatedContainer,
  toObservedSet,
} from "./simulated-container.ts";
import { describeBytes } from "../../lib/text/describe-bytes.ts";

/** A call of the port, as an interceptor receives it. */
export interface SimulatedCall {
  verb:
    | "observe"
    | "prepare"
    | "prepareContainer"
    | "pull"
    | "resize"
    | "start"
    | "postStart"
    | "stop"
    | "remove"
    | "stopAll"
    | "probe"
    | "ping";
  /** At "middle", a call has done half of its work. */
  at: "begin" | "middle" | "end";
  setId: string | undefined;
  /** Generation of the call's spec. */
  generation: number | undefined;
}

/**
 * Runs at the beginning, in the middle and at the end of calls. It may throw, wait, or never
 * return.
 */
export type SimulatedIntercept = (call: SimulatedCall, signal: AbortSignal) => Promise<void>;

export interface SimulatedEngineOptions {
  clock: Clock;
  /** Duration of each verb, 0 by default. */
  delaysMs?: Partial<Record<SimulatedCall["verb"], number>>;
  hasImage?: (image: string) => boolean;
  images?: readonly string[];
  probe?: (setId: string, container: string) => ProbeResult;
  /** The hook after the start of a container. */
  postStart?: (setId: string, container: string) => ProbeResult;
}

const exitedByStop = 143;
const exitedByCrash = 137;

/**
 * Containers as rows of a table, with the behavior of real ones. Several hosts may share one
 * engine.
 */
export class SimulatedEngine {
  readonly options: SimulatedEngineOptions;
  readonly #containers = new Map<string, SimulatedContainer>();
  readonly #watchers = new Set<{ hostId: string; onChange: (setId: string) => void }>();
  #lastNumber = 0;

  constructor(options: SimulatedEngineOptions) {
    this.options = options;
  }

  observe(hostId: string): ObservedLocalSet[] {
    const bySet = new Map<string, SimulatedContainer[]>();
    for (const container of this.#containers.values()) {
      if (container.hostId !== hostId) continue;
      const ofSet = bySet.get(container.setId);
      if (ofSet) ofSet.push(container);
      else bySet.set(container.setId, [container]);
    }
    return [...bySet].map(([setId, containers]) => toObservedSet(setId, containers));
  }

  observeSet(hostId: string, setId: string): ObservedLocalSet | undefined {
    const containers = this.#ofSet(hostId, setId);
    return containers.length === 0 ? undefined : toObservedSet(setId, containers);
  }

  /**
   * First half of `prepare`: deletes containers of another infra, stops detached ones, and creates
   * and starts infra.
   */
  prepareInfra(hostId: string, set: LocalSetSpec): void {
    const stale = this.#findStale(hostId, set);
    const isUp = this.#infraOf(hostId, set.setId)?.state === "running";
    if (isUp && stale.length > 0) this.#requireImages(set, () => true);
    for (const container of stale) this.#delete(container);
    const existing = this.#infraOf(hostId, set.setId);
    if (existing) this.#stopDetached(hostId, set.setId, existing);
    const infra = existing ?? this.#create(hostId, set, INFRA_CONTAINER, -1, undefined);
    if (infra.state !== "running") this.#start(infra);
  }

  /** Fails for an image that neither this engine nor a registry has. */
  pullImages(set: LocalSetSpec, names: readonly string[]): void {
    for (const { name, image } of set.template.containers)
      if (names.includes(name) && !this.#hasImage(image)) throw createImageNotFound(image);
  }

  /** The id of an image. Fails for one that neither this engine nor a registry has. */
  fetchImage(reference: string): string {
    if (!this.#hasImage(reference)) throw createImageNotFound(reference);
    return `sha256:${createHash("sha256").update(reference).digest("hex")}`;
  }

  /** Fails if images are missing of the containers that `isNeeded` is true for. */
  #requireImages({ template }: LocalSetSpec, isNeeded: (name: string) => boolean): void {
    const missing = template.containers.filter(
      ({ name, image }) => isNeeded(name) && !this.#hasImage(image),
    );
    const [first] = missing;
    if (!first) return;
    const names = missing.map(({ name }) => name);
    throw createImageMissing(first.image, names);
  }

  #hasImage(image: string): boolean {
    return this.options.hasImage?.(image) ?? true;
  }

  /**
   * Second half of `prepare`: creates the missing business containers. Returns those that it could
   * not create.
   */
  prepareBusiness(
    hostId: string,
    set: LocalSetSpec,
    completed: readonly string[] = [],
  ): ContainerFailure[] {
    const failures: ContainerFailure[] = [];
    for (const { name } of set.template.containers) {
      if (this.#find(hostId, set.setId, name) || completed.includes(name)) continue;
      try {
        this.prepareContainer(hostId, set, name);
      } catch (error) {
        failures.push({ container: name, error });
      }
    }
    return failures;
  }

  /** Creates a business container, replaces an outdated one, or stops a detached one. */
  prepareContainer(hostId: string, set: LocalSetSpec, name: string): void {
    const { setId } = set;
    const infra = this.#infraOf(hostId, setId);
    if (!infra) throw createNotPrepared(setId);
    const template = set.template.containers.find((candidate) => candidate.name === name);
    if (!template) throw new RangeError(`the set's template has no container "${name}"`);
    const existing = this.#find(hostId, setId, name);
    const isCurrent =
      existing && existing.infraId === infra.dockerId && !isContainerOutdated(set, name, existing);
    if (isCurrent) {
      if (existing.state === "running" && isDetached(existing, infra))
        this.#end(existing, exitedByStop);
      return;
    }
    this.#requireImages(set, (one) => {
      if (one === name || existing?.state !== "running") return one === name;
      const other = this.#find(hostId, setId, one);
      return other !== undefined && isContainerOutdated(set, one, other);
    });
    if (existing) this.#delete(existing);
    this.#create(hostId, set, name, template.index, infra.dockerId);
  }

  /** Applies the new limits, except to a container that uses more memory than its new limit. */
  resize(hostId: string, set: LocalSetSpec): void {
    let refusal: AgentError | undefined;
    for (const container of this.#ofSet(hostId, set.setId)) {
      const { name, heldBytes } = container;
      const wanted = computeLimits(set, name);
      if (heldBytes > wanted.memoryBytes) {
        const options = { phase: "resize" as const, temporary: true };
        refusal = new AgentError(
          "memory-in-use",
          `"${name}" uses ${describeBytes(heldBytes)} of memory`,
          options,
        );
        continue;
      }
      container.limits = wanted;
      this.#notify(container);
    }
    if (refusal) throw refusal;
  }

  start(hostId: string, setId: string, name: string): void {
    const container = this.#find(hostId, setId, name);
    const infra = this.#infraOf(hostId, setId);
    if (!container || !infra) throw createNotPrepared(setId);
    if (infra.state !== "running") {
      throw new AgentError(
        "infra-not-running",
        `"${name}" cannot start before its infra container`,
        {
          phase: "start",
          temporary: true,
        },
      );
    }
    if (container.state === "running") {
      if (!isDetached(container, infra)) return;
      this.#end(container, exitedByStop);
    }
    this.#start(container);
  }

  stop(hostId: string, setId: string, name: string): void {
    const container = this.#find(hostId, setId, name);
    if (container?.state === "running") this.#end(container, exitedByStop);
  }

  stopAll(hostId: string, setId: string): void {
    for (const container of this.#ofSet(hostId, setId)) {
      if (container.state === "running") this.#end(container, exitedByStop);
    }
  }

  removeBusiness(hostId: string, setId: string): void {
    for (const container of this.#ofSet(hostId, setId)) {
      if (container.name !== INFRA_CONTAINER) this.#delete(container);
    }
  }

  removeInfra(hostId: string, setId: string): void {
    const infra = this.#infraOf(hostId, setId);
    if (infra) this.#delete(infra);
  }

  watch(hostId: string, onChange: (setId: string) => void): () => void {
    const watcher = { hostId, onChange };
    this.#watchers.add(watcher);
    return () => this.#watchers.delete(watcher);
  }

  /** Ends a container as if its main process had exited. */
  exit(dockerId: string, exitCode = exitedByCrash): void {
    const container = this.#containers.get(dockerId);
    if (container?.state === "running") this.#end(container, exitCode);
  }

  /** The number of starts of a container. */
  countStarts(dockerId: string): number {
    return this.#containers.get(dockerId)?.starts ?? 0;
  }

  /** Deletes a container as an administrator of the machine may. */
  removeExternally(dockerId: string): void {
    const container = this.#containers.get(dockerId);
    if (container) this.#delete(container);
  }

  /**
   * Changes limits as an administrator of the machine may; for infra, the set's limits. Cgroup
   * changes cause no event.
   */
  limitExternally(dockerId: string, limits: Limits): void {
    const container = this.#containers.get(dockerId);
    if (container) container.limits = limits;
  }

  /** Lets a container's processes allocate memory and never release it. */
  hold(dockerId: string, bytes: number): void {
    const container = this.#containers.get(dockerId);
    if (container) container.heldBytes = bytes;
  }

  #ofSet(hostId: string, setId: string): SimulatedContainer[] {
    return [...this.#containers.values()].filter(
      (container) => container.hostId === hostId && container.setId === setId,
    );
  }

  #find(hostId: string, setId: string, name: string): SimulatedContainer | undefined {
    return this.#ofSet(hostId, setId).find((container) => container.name === name);
  }

  #infraOf(hostId: string, setId: string): SimulatedContainer | undefined {
    return this.#find(hostId, setId, INFRA_CONTAINER);
  }

  #findStale(hostId: string, set: LocalSetSpec): SimulatedContainer[] {
    const existing = this.#ofSet(hostId, set.setId);
    const infra = this.#infraOf(hostId, set.setId);
    if (!infra || isContainerOutdated(set, INFRA_CONTAINER, infra)) return existing;
    const names = new Set(set.template.containers.map(({ name }) => name));
    return existing.filter((container) => {
      if (container === infra) return false;
      return !names.has(container.name) || container.infraId !== infra.dockerId;
    });
  }

  #stopDetached(hostId: string, setId: string, infra: SimulatedContainer): void {
    for (const container of this.#ofSet(hostId, setId)) {
      if (container === infra || container.state !== "running") continue;
      if (infra.state !== "running" || isDetached(container, infra))
        this.#end(container, exitedByStop);
    }
  }

  #create(
    hostId: string,
    set: LocalSetSpec,
    name: string,
    index: number,
    infraId: string | undefined,
  ): SimulatedContainer {
    this.#lastNumber++;
    const template = set.template.containers.find((candidate) => candidate.name === name);
    const container: SimulatedContainer = {
      dockerId: this.#lastNumber.toString(16).padStart(64, "0"),
      hostId,
      setId: set.setId,
      name,
      index,
      generation: set.generation,
      specHash: specHash(set, name),
      restartGeneration: set.restartGeneration,
      stopSignalSource: template && stopSignalSource(template),
      limits: computeLimits(set, name),
      heldBytes: 0,
      state: "created",
      infraId,
      starts: 0,
      joinedRun: undefined,
      exitCode: undefined,
      startedAt: undefined,
      finishedAt: undefined,
    };
    this.#containers.set(container.dockerId, container);
    return container;
  }

  #start(container: SimulatedContainer): void {
    container.state = "running";
    container.startedAt = this.#now();
    container.finishedAt = undefined;
    container.exitCode = undefined;
    container.starts++;
    const infra = this.#infraOf(container.hostId, container.setId);
    container.joinedRun = infra && runOf(infra);
    this.#notify(container);
  }

  #end(container: SimulatedContainer, exitCode: number): void {
    container.state = "exited";
    container.exitCode = exitCode;
    container.finishedAt = this.#now();
    this.#notify(container);
  }

  #delete(container: SimulatedContainer): void {
    this.#containers.delete(container.dockerId);
    this.#notify(container);
  }

  #notify({ hostId, setId }: SimulatedContainer): void {
    for (const watcher of this.#watchers) if (watcher.hostId === hostId) watcher.onChange(setId);
  }

  #now(): string {
    return new Date(this.options.clock.wallMs()).toISOString();
  }
}

function computeLimits({ template }: LocalSetSpec, name: string): Limits {
  const found = template.containers.find((container) => container.name === name);
  return found ? containerLimits(template, found.options) : setLimits(template);
}
