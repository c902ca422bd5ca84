import { join } from "node:path";
import { createConcurrencyLimit } from "../../lib/async/concurrency-limit.ts";
import type { Log } from "../../lib/log.ts";
import { runCommand } from "../exec.ts";

/** Paths for each call of the program, so that its arguments stay below the kernel's limit. */
const pathsPerCall = 100;
const callsAtATimeMax = 4;
const defaultTimeouts = { batchMs: 30_000, pathMs: 5_000, slowMs: 60_000 };
const volumeName = /^[0-9a-f]{64}$/;

/** A container with its mounts, as Docker lists it. */
export interface MountingContainer {
  Id: string;
  Mounts?: { Type?: string; Name?: string }[] | null | undefined;
}

export interface ImageVolumesOptions {
  /** Docker's folder. */
  root: () => string;
  log: Log;
  du?: string;
  /** Deadlines for 100 volumes, for one of them after that, and for one that is slow. */
  timeouts?: typeof defaultTimeouts;
}

/**
 * Measures the volumes that Docker creates for the VOLUME instructions of images, by the id of
 * their container. They last as long as the container, so they count as its root file system,
 * although Docker does not count them.
 *
 * A volume with very many files takes minutes. It does not delay the others: each measurement has
 * one such volume, in turn. Meanwhile its last size counts.
 */
export class ImageVolumes {
  readonly #options: Required<ImageVolumesOptions>;
  /** The last size of each volume, by path. */
  #known = new Map<string, number>();
  /** Volumes that did not end in time, in the order of their turns. */
  #slow: string[] = [];

  constructor(options: ImageVolumesOptions) {
    this.#options = { du: "/usr/bin/du", timeouts: defaultTimeouts, ...options };
  }

  async measure(
    containers: readonly MountingContainer[],
    signal: AbortSignal,
  ): Promise<Map<string, number>> {
    const owners = this.#listOwners(containers);
    this.#slow = this.#slow.filter((path) => owners.has(path));
    this.#known = new Map([...this.#known].filter(([path]) => owners.has(path)));
    const isSlow = new Set(this.#slow);
    const paths = [...owners.keys()].filter((path) => !isSlow.has(path));
    for (let start = 0; start < paths.length; start += pathsPerCall)
      await this.#measureBatch(paths.slice(start, start + pathsPerCall), signal);
    const next = this.#slow.find((path) => isSlow.has(path));
    if (next !== undefined) await this.#measureSlow(next, signal);
    const bytes = new Map<string, number>();
    for (const [path, usedBytes] of this.#known) {
      const dockerId = owners.get(path);
      if (dockerId !== undefined) bytes.set(dockerId, (bytes.get(dockerId) ?? 0) + usedBytes);
    }
    return bytes;
  }

  #listOwners(containers: readonly MountingContainer[]): Map<string, string> {
    const owners = new Map<string, string>();
    for (const { Id: dockerId, Mounts: mounts } of containers) {
      for (const { Type: type, Name: name = "" } of mounts ?? []) {
        // Berth gives containers no volumes with names.
        if (type === "volume" && volumeName.test(name))
          owners.set(join(this.#options.root(), "volumes", name, "_data"), dockerId);
      }
    }
    return owners;
  }

  /** If the whole batch does not end in time, measures each volume alone to find the slow ones. */
  async #measureBatch(paths: readonly string[], signal: AbortSignal): Promise<void> {
    const { batchMs, pathMs } = this.#options.timeouts;
    if (await this.#tryDu(paths, batchMs, signal)) return;
    const limit = createConcurrencyLimit(callsAtATimeMax);
    const measureOne = async (path: string) => {
      if (!(await this.#tryDu([path], pathMs, signal))) this.#slow.push(path);
    };
    await Promise.all(paths.map((path) => limit(() => measureOne(path))));
  }

  /** Measures a slow volume, which joins the others again if it ends as soon as they must. */
  async #measureSlow(path: string, signal: AbortSignal): Promise<void> {
    const { pathMs, slowMs } = this.#options.timeouts;
    this.#slow = this.#slow.filter((other) => other !== path);
    const startedAtMs = performance.now();
    const isMeasured = await this.#tryDu([path], slowMs, signal);
    if (!isMeasured || performance.now() - startedAtMs > pathMs) this.#slow.push(path);
  }

  /** Returns false if the program did not end in time, or failed. */
  async #tryDu(paths: readonly string[], timeoutMs: number, signal: AbortSignal): Promise<boolean> {
    try {
      await this.#runDu(paths, timeoutMs, signal);
      return true;
    } catch (error) {
      signal.throwIfAborted();
      const about = { err: error, volumes: paths.length, path: paths[0] };
      this.#options.log.warn(about, "cannot measure volumes of images");
      return false;
    }
  }

  /** Notes the blocks on the disk in bytes. */
  async #runDu(paths: readonly string[], timeoutMs: number, signal: AbortSignal): Promise<void> {
    const args = ["--summarize", "--block-size=1", "--one-file-system", "--null", "--", ...paths];
    const output = await runCommand(this.#options.du, args, {
      timeoutMs,
      signal,
      // Files that vanish during the measurement.
      exitCodesAccepted: [1],
    });
    for (const line of output.split("\0")) {
      const [usedBytes, path] = line.split("\t");
      if (path !== undefined) this.#known.set(path, Number(usedBytes));
    }
  }
}
