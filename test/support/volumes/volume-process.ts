import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import type { VolumeWork } from "./volume-child.ts";

const source = fileURLToPath(new URL("./volume-child.ts", import.meta.url));

/** Processes that work on volumes like an agent, and are killed. */
export interface VolumeProcesses {
  /**
   * Runs a process that kills itself at `killAtMoment`. Returns false if it completed its work
   * before.
   */
  runUntilKill(work: VolumeWork): Promise<boolean>;
  /** Runs a process for this time and kills it. */
  killAfter(work: VolumeWork, workMs: number): Promise<void>;
  close(): Promise<void>;
}

/**
 * Bundles the program into one file, because a process then starts in a third of the time on a slow
 * host.
 */
export async function openVolumeProcesses(): Promise<VolumeProcesses> {
  const folder = await mkdtemp(join(tmpdir(), "berth-child-"));
  const program = join(folder, "volume-child.mjs");
  await build({
    entryPoints: [source],
    outfile: program,
    bundle: true,
    platform: "node",
    format: "esm",
    // Bundled CommonJS modules need `require`.
    banner: {
      js: 'import { createRequire } from "node:module"; const require = createRequire(import.meta.url);',
    },
  });
  const start = (work: VolumeWork): ChildProcess =>
    spawn(process.execPath, [program, JSON.stringify(work)], {
      stdio: ["ignore", "pipe", "inherit"],
    });
  return {
    async runUntilKill(work) {
      const [code, signal] = (await once(start(work), "exit")) as [number | null, string | null];
      if (signal !== "SIGKILL" && code !== 0) throw new Error(`it ended with ${code ?? signal}`);
      return signal === "SIGKILL";
    },
    async killAfter(work, workMs) {
      const dying = start(work);
      const exited = once(dying, "exit");
      if (dying.stdout) await once(dying.stdout, "data");
      await delay(workMs); // the time of the kill varies, so this is not a wait
      dying.kill("SIGKILL");
      await exited;
    },
    close: () => rm(folder, { recursive: true, force: true }),
  };
}
