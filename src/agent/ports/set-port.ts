import type {
  ContainerFailure,
  LocalSetSpec,
  ObservedLocalSet,
  ProbeTarget,
  ProbeResult,
} from "../model/local-set.ts";
import type { FetchedImage } from "./image-port.ts";

export interface StopOptions {
  /** The newest known description of the set that stops. */
  set?: LocalSetSpec | undefined;
  /** The stop is urgent, so no hook delays it. */
  skipsHooks?: boolean | undefined;
}

/**
 * The agent's operations on the containers of its host's sets, in the order of a set's life. The
 * set engine (agent/engine) implements it over the ports to a machine, and host-adapters/simulated
 * has containers in memory for simulated hosts. Both pass the suite in test/contract/set-port.ts.
 *
 * Every call is idempotent: it does not create an existing object again, and a missing object is
 * not an error. A call rejects with AgentError, which states whether a retry can help. A call never
 * changes an object without Berth's labels and this host's id.
 *
 * Calls for different sets overlap, and so do calls for different containers of one set, a resize
 * and pulls of images. `prepare`, `stopAll` and `remove` overlap with no other change of the set.
 */
export interface SetPort {
  /**
   * Lists the sets of this host that have at least one container, cgroup or live volume. A set
   * that cannot be observed is not in the list, and `onUnseen` receives its error. Without
   * `onUnseen`, the call rejects with that error.
   */
  observe(
    signal: AbortSignal,
    onUnseen?: (setId: string, error: unknown) => void,
  ): Promise<ObservedLocalSet[]>;
  /** Observes one set; undefined if it has no container, cgroup or live volume. */
  observeSet(setId: string, signal: AbortSignal): Promise<ObservedLocalSet | undefined>;
  /**
   * Creates the set's cgroup and volume, and creates and starts its infra container. Creates, but
   * does not start, each missing business container that is not in `completed`. Stops detached
   * containers: those in the network of an earlier run of infra. Removes containers that the
   * template lacks, and those of an earlier infra container. If infra has another spec hash or a
   * `restartGeneration` below the desired one, it replaces all containers. Independent steps
   * overlap.
   *
   * Returns the containers that it could not create, which delay nothing else. Pulls no image. It
   * removes no container of a running infra while the daemon lacks one of their images. Then it
   * rejects with the code `IMAGE_MISSING` (agent-error.ts).
   */
  prepare(
    set: LocalSetSpec,
    signal: AbortSignal,
    options?: { completed?: readonly string[] },
  ): Promise<ContainerFailure[]>;
  /**
   * Prepares one business container of a prepared set for its start. Creates it if it is missing,
   * and replaces it if it is broken, or outdated in the sense of `prepare`. Stops it if it is
   * detached. Leaves other containers alone.
   *
   * Pulls no image. Rejects with the code `IMAGE_MISSING` if the daemon lacks it, and then removes
   * nothing. A running container is replaced only if the daemon has the images of all outdated
   * containers of the set.
   */
  prepareContainer(set: LocalSetSpec, container: string, signal: AbortSignal): Promise<void>;
  /**
   * Pulls the images of these containers that the daemon lacks. It mostly waits, and the adapter
   * limits the concurrent pulls of the host, so callers need no slot.
   */
  pullImages(set: LocalSetSpec, containers: readonly string[], signal: AbortSignal): Promise<void>;
  /**
   * Pulls an image before a set needs it, even if the daemon has an older one with this tag. It
   * rejects as `pullImages` does.
   */
  prefetch(
    image: { reference: string; tenant: string },
    signal: AbortSignal,
  ): Promise<FetchedImage>;
  /** Resizes a prepared set, its containers and its volume to its template while they run. */
  resize(set: LocalSetSpec, signal: AbortSignal): Promise<void>;
  /**
   * Starts the named business containers of a prepared set in parallel. With `seen`, it leaves a
   * container as it is that has run since that observation: a killed agent may have requested that
   * start. It waits for a start in progress.
   */
  start(
    set: LocalSetSpec,
    containers: readonly string[],
    signal: AbortSignal,
    options?: { seen?: ObservedLocalSet | undefined },
  ): Promise<void>;
  /** Stops the named business containers in parallel, with their stop signal and timeout. */
  stop(set: LocalSetSpec, containers: readonly string[], signal: AbortSignal): Promise<void>;
  /**
   * Stops the running containers: business containers by descending index, then infra. Then deletes
   * every container and the cgroup, and trashes the volume. Needs only labels, so it also works for
   * a set without a known spec. With `set`, the hooks before a stop run, and containers
   * get the stop timeouts of its template. Without it, no hook runs, and the timeouts are those of
   * their creation.
   */
  remove(setId: string, signal: AbortSignal, options?: StopOptions): Promise<void>;
  /**
   * Stops the running containers in the order of `remove`. The containers stay, as in a stopped
   * set.
   */
  stopAll(setId: string, signal: AbortSignal, options?: StopOptions): Promise<void>;
  /**
   * Runs the hook that follows the start of an observed container, within its timeout. A hook that
   * fails is an unhealthy result. Only a daemon that does not answer is an error.
   */
  postStart(set: LocalSetSpec, target: ProbeTarget, signal: AbortSignal): Promise<ProbeResult>;
  /**
   * Runs one probe of an observed container's health check, within its timeout. Only a check with a
   * command calls the Docker API.
   */
  probe(set: LocalSetSpec, target: ProbeTarget, signal: AbortSignal): Promise<ProbeResult>;
  /**
   * Streams a container's output as demultiplexed bytes: the last `tail` lines. With `follow` it
   * continues until aborted.
   */
  logs(
    setId: string,
    container: string,
    options: { tail: number; follow: boolean },
    signal: AbortSignal,
  ): AsyncIterable<Uint8Array>;
  /**
   * Calls `onChange` with the set's id after any start, exit or removal of its containers, whatever
   * the cause. Events only reduce latency: a daemon restart loses events, and the periodic resync
   * corrects that. Ends when aborted.
   *
   * Calls `onOpen` each time that events begin to arrive, because earlier changes caused none.
   */
  watch(onChange: (setId: string) => void, signal: AbortSignal, onOpen?: () => void): Promise<void>;
  /**
   * Bytes of memory that sets and containers hold, without page cache that the kernel can drop. The
   * keys are set ids and the first 12 characters of container ids. Calls no Docker API.
   */
  memoryUsage(): Promise<Record<string, number>>;
  /** Resolves if the daemon answers within `timeoutMs`, else rejects. Detects a hung daemon. */
  ping(timeoutMs: number): Promise<void>;
  /** Lists the references of all images in the daemon. */
  images(signal: AbortSignal): Promise<string[]>;
}
