import type { Sync } from "../../contracts/agent-protocol/sync.ts";
import type { Log } from "../../lib/log.ts";
import type { AgentLimits } from "../base/agent-limits.ts";
import { type Clock, sleep } from "../base/clock.ts";
import type { SetPort } from "../ports/set-port.ts";
import { Wakeup } from "../base/wakeup.ts";
import { truncate } from "../../lib/text/truncate.ts";

export type DockerHealth = NonNullable<Sync["docker"]>;

/** Retry interval after a failed ping. One failure means slow, two in a row mean unreachable. */
const RETRY_MS = 1_000;
const DETAIL_CHARS_MAX = 500;

export interface DockerHealthMonitorOptions {
  port: SetPort;
  clock: Clock;
  log: Log;
  limits: AgentLimits;
  /** Called when the health or the list of images changes. */
  onChange: () => void;
  /** Called when the daemon answers again after it was unreachable. */
  onAvailable: () => void;
  /** Called when the daemon answers again after a failed ping. Perhaps it has restarted. */
  onAnswer: () => void;
}

/** Pings the daemon and lists its images periodically, independent of the sets' steps. */
export class DockerHealthMonitor {
  readonly #options: DockerHealthMonitorOptions;
  readonly #listWakeup: Wakeup;
  #health: DockerHealth | undefined;
  #images: string[] | undefined;
  /** Time of the first failed ping in a row. */
  #failedSince: string | undefined;
  #failuresInRow = 0;

  constructor(options: DockerHealthMonitorOptions) {
    this.#options = options;
    this.#listWakeup = new Wakeup(options.clock);
  }

  /** Undefined until the first ping succeeds or fails. */
  get health(): DockerHealth | undefined {
    return this.#health;
  }

  get images(): string[] | undefined {
    return this.#images;
  }

  /** Runs until aborted. */
  async run(signal: AbortSignal): Promise<void> {
    await Promise.all([this.#keepPinging(signal), this.#keepListing(signal)]);
  }

  async #keepPinging(signal: AbortSignal): Promise<void> {
    const { clock, limits } = this.#options;
    while (!signal.aborted) {
      const startedAtMs = clock.nowMs();
      await this.#ping();
      const everyMs = this.#failuresInRow === 1 ? RETRY_MS : limits.pingIntervalMs;
      const passedMs = Math.max(0, clock.nowMs() - startedAtMs);
      await sleep(clock, Math.max(0, everyMs - passedMs), signal);
    }
  }

  /** Lists images in a loop of its own, so that a slow list never delays a ping. */
  async #keepListing(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await this.#listImages(signal);
      await this.#listWakeup.wait(this.#options.limits.imagesIntervalMs, signal);
    }
  }

  async #ping(): Promise<void> {
    const { port, clock, limits } = this.#options;
    const startedAtMs = clock.nowMs();
    try {
      await port.ping(limits.pingTimeoutMs);
    } catch (error) {
      this.#failuresInRow++;
      this.#failedSince ??= new Date(clock.wallMs()).toISOString();
      const message = error instanceof Error ? error.message : String(error);
      const detail = truncate(`no answer since ${this.#failedSince}: ${message}`, DETAIL_CHARS_MAX);
      this.#become({ state: this.#failuresInRow === 1 ? "slow" : "unreachable", detail });
      return;
    }
    const hasFailed = this.#failuresInRow > 0;
    this.#failuresInRow = 0;
    this.#failedSince = undefined;
    const tookMs = clock.nowMs() - startedAtMs;
    const wasUnreachable = this.#health?.state === "unreachable";
    this.#become(
      tookMs > limits.pingSlowMs
        ? { state: "slow", detail: `answered after ${Math.round(tookMs)} ms` }
        : { state: "ok", detail: "" },
    );
    if (hasFailed) this.#options.onAnswer();
    if (!wasUnreachable) return;
    this.#listWakeup.notify();
    this.#options.onAvailable();
  }

  #become(health: DockerHealth): void {
    const hasChanged = this.#health?.state !== health.state;
    this.#health = health;
    if (!hasChanged) return;
    const { log, onChange } = this.#options;
    if (health.state === "ok") log.info({ state: health.state }, "docker health");
    else log.warn({ ...health }, "docker health");
    onChange();
  }

  async #listImages(signal: AbortSignal): Promise<void> {
    const { port, log, onChange } = this.#options;
    try {
      const images = await port.images(signal);
      if (JSON.stringify(images) === JSON.stringify(this.#images)) return;
      this.#images = images;
      onChange();
    } catch (error) {
      if (!signal.aborted) log.warn({ err: error }, "cannot list images");
    }
  }
}
