import { existsSync, readdirSync, readFileSync, rmdirSync } from "node:fs";
import { readdir, rmdir } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { idSchema } from "../../contracts/common/primitives.ts";
import { AgentError } from "../../agent/base/agent-error.ts";

const emptyDeadlineMs = 5_000;
const emptyPollMs = 20;
const setIdSchema = idSchema("set");

/** False for other folders beside those of sets, which are not Berth's. */
export function isSetId(name: string): boolean {
  return setIdSchema.safeParse(name).success;
}

/**
 * The cgroup folders of a host's sets, below `path` in every hierarchy. Docker creates the parent
 * of its containers in the hierarchies of all controllers, also in those without a limit of the
 * set. So a folder may remain in any of them.
 */
export interface SetFolders {
  /** Sets that have a folder in some hierarchy. */
  list(): Promise<string[]>;
  /**
   * Deletes the set's folders, and the host's own folder after the last set. Waits up to 5 s for
   * the kernel to notice the exit of the last process.
   */
  remove(setId: string, signal: AbortSignal): Promise<void>;
  /** Rejects with cgroup-busy if a cgroup or a process is in the host's folder. */
  checkHostEmpty(): Promise<void>;
  /** Deletes the host's folder. The kernel refuses that while a cgroup or a process is in it. */
  removeHost(): Promise<void>;
}

/** @param version version of cgroups: 1 has a hierarchy for each controller, 2 has one */
export function createSetFolders(root: string, path: string, version: 1 | 2): SetFolders {
  const hostFolders = async () => {
    const hierarchies = version === 1 ? await readdir(root) : ["."];
    return hierarchies.map((hierarchy) => join(root, hierarchy, path));
  };
  return {
    async list() {
      const names = (await hostFolders()).flatMap(readNames);
      return [...new Set(names)].filter(isSetId);
    },
    async remove(setId, signal) {
      const folders = await hostFolders();
      await Promise.all(folders.map((folder) => removeWhenEmpty(join(folder, setId), signal)));
      if (folders.some((folder) => readNames(folder).some(isSetId))) return;
      for (const folder of folders) removeIfEmpty(folder);
    },
    async checkHostEmpty() {
      for (const folder of await hostFolders())
        if (readNames(folder).length > 0 || hasProcesses(folder)) throw cgroupBusy(folder);
    },
    async removeHost() {
      for (const folder of await hostFolders()) {
        removeIfEmpty(folder);
        if (existsSync(folder)) throw cgroupBusy(folder);
      }
    },
  };
}

/** Synchronous, like all reads of the kernel's files (see read-cgroup.ts). */
function readNames(folder: string): string[] {
  try {
    const entries = readdirSync(folder, { withFileTypes: true });
    return entries.flatMap((entry) => (entry.isDirectory() ? entry.name : []));
  } catch (error) {
    if (isMissing(error)) return [];
    throw error;
  }
}

/**
 * Leaves the host's folder if a set's folder is being created in it, or if it has foreign content.
 */
function removeIfEmpty(folder: string): void {
  try {
    rmdirSync(folder);
  } catch (error) {
    if (!isMissing(error) && !isBusy(error)) throw error;
  }
}

/** A cgroup stays busy for a moment after its last process exits. */
async function removeWhenEmpty(folder: string, signal: AbortSignal): Promise<void> {
  const startedAtMs = performance.now();
  for (;;) {
    try {
      return await rmdir(folder);
    } catch (error) {
      if (isMissing(error)) return;
      if (!isBusy(error)) throw error;
      if (performance.now() - startedAtMs > emptyDeadlineMs) {
        throw cgroupBusy(folder, error);
      }
      await delay(emptyPollMs, undefined, { signal });
    }
  }
}

/** False for a folder that does not exist. */
function hasProcesses(folder: string): boolean {
  try {
    return readFileSync(join(folder, "cgroup.procs"), "utf8").trim() !== "";
  } catch (error) {
    if (isMissing(error)) return false;
    throw error;
  }
}

function cgroupBusy(folder: string, cause?: unknown): AgentError {
  return new AgentError("cgroup-busy", `cgroup ${folder} still has processes or children`, {
    phase: "remove",
    temporary: true,
    cause,
  });
}

function isMissing(error: unknown): boolean {
  return ["ENOENT", "ENOTDIR"].includes(getErrorCode(error));
}

function isBusy(error: unknown): boolean {
  return ["EBUSY", "ENOTEMPTY"].includes(getErrorCode(error));
}

function getErrorCode(error: unknown): string {
  return String((error as { code?: unknown } | undefined)?.code);
}
