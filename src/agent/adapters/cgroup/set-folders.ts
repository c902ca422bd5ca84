import { readdirSync, rmdirSync } from "node:fs";
import { readdir, rmdir } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { idSchema } from "../../../contracts/common/primitives.ts";
import { AgentError } from "../../agent-error.ts";

const emptyDeadlineMs = 5_000;
const emptyPollMs = 20;
const setIdSchema = idSchema("set");

/** Other folders beside those of sets are not ours, whoever made them. */
export function isSetId(name: string): boolean {
  return setIdSchema.safeParse(name).success;
}

/**
 * The folders of a host's sets, each below `path` in every hierarchy: Docker makes the parent of its containers in the
 * hierarchies of all controllers, also where no limit of the set is. So there may be one left in any of them.
 */
export interface SetFolders {
  /** Sets of which one is there in some hierarchy. */
  list(): Promise<string[]>;
  /** Waits up to 5 s for the kernel to notice that the last process has gone. With the last set the host's own folder goes. */
  remove(setId: string, signal: AbortSignal): Promise<void>;
}

/** @param version of control groups: 1 has a hierarchy for each controller, 2 has one */
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
  };
}

/** Read at once, as all that the kernel has ready (see read-cgroup.ts). */
function readNames(folder: string): string[] {
  try {
    const entries = readdirSync(folder, { withFileTypes: true });
    return entries.flatMap((entry) => (entry.isDirectory() ? entry.name : []));
  } catch (error) {
    if (isMissing(error)) return [];
    throw error;
  }
}

/** A set whose folders are just being made, or something that is not ours, keeps the host's folder. */
function removeIfEmpty(folder: string): void {
  try {
    rmdirSync(folder);
  } catch (error) {
    if (!isMissing(error) && !isBusy(error)) throw error;
  }
}

/** A cgroup stays busy for a moment after its last process has gone. */
async function removeWhenEmpty(folder: string, signal: AbortSignal): Promise<void> {
  const startedAtMs = performance.now();
  for (;;) {
    try {
      return await rmdir(folder);
    } catch (error) {
      if (isMissing(error)) return;
      if (!isBusy(error)) throw error;
      if (performance.now() - startedAtMs > emptyDeadlineMs) {
        throw new AgentError(
          "cgroup-busy",
          `the cgroup ${folder} still has processes or children`,
          { phase: "remove", temporary: true, cause: error },
        );
      }
      await delay(emptyPollMs, undefined, { signal });
    }
  }
}

function isMissing(error: unknown): boolean {
  return ["ENOENT", "ENOTDIR"].includes(codeOf(error));
}

function isBusy(error: unknown): boolean {
  return ["EBUSY", "ENOTEMPTY"].includes(codeOf(error));
}

function codeOf(error: unknown): string {
  return String((error as { code?: unknown } | undefined)?.code);
}
