import { spawn } from "node:child_process";
import { once } from "node:events";

export interface MountHolder {
  processId: number;
  /** Ends the process, and with it the mounts that only it has. */
  end(): Promise<void>;
}

/**
 * Starts a process with its own copy of every mount of the host, as a container has that binds the
 * host's root directory.
 */
export async function holdMounts(): Promise<MountHolder> {
  const program = ["sh", "-c", "echo ready; exec sleep 600"];
  const holder = spawn("unshare", ["--mount", "--propagation", "private", ...program], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const exited = once(holder, "exit");
  await once(holder.stdout, "data");
  if (holder.pid === undefined) throw new Error("the holder runs");
  return {
    processId: holder.pid,
    async end() {
      holder.kill("SIGKILL");
      await exited;
    },
  };
}
