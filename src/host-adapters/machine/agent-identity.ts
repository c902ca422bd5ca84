import { createHmac, randomUUID } from "node:crypto";
import { access, readFile } from "node:fs/promises";
import path from "node:path";
import type { AgentIdentity } from "../../contracts/agent-protocol/agent-identity.ts";

/** The key of the hash, so that no other program publishes the same one. */
const application = "berth-host-agent";
/**
 * Files that show that `/etc/machine-id` does not last. The first one has an id of systemd for this
 * boot only. The others exist in a container, which has the id of its image.
 */
const signsOfTemporaryId = ["run/machine-id", ".dockerenv", "run/.containerenv"];

/**
 * Returns the identity of this process and its machine. Each call is another process.
 * @param machineIdFile a file whose id lasts, as the operator states
 */
export async function readAgentIdentity(
  machineIdFile?: string,
  root = "/",
): Promise<AgentIdentity> {
  const boot = await readFile(path.join(root, "proc/sys/kernel/random/boot_id"), "utf8");
  return {
    machineId: hashMachineId(await readMachineId(machineIdFile, root)),
    bootId: boot.trim(),
    processId: randomUUID(),
    // The monotonic clock of Linux starts with the boot.
    startedMs: Number(process.hrtime.bigint() / 1_000_000n),
  };
}

/** Undefined if the machine has no lasting id. Rejects if the operator's file has none. */
async function readMachineId(
  machineIdFile: string | undefined,
  root: string,
): Promise<string | undefined> {
  if (machineIdFile !== undefined) {
    const machineId = parseMachineId(await readFile(machineIdFile, "utf8"));
    if (machineId !== undefined) return machineId;
    throw new Error(
      `${machineIdFile} has no machine id. Set BERTH_AGENT_MACHINE_ID_FILE to a file with 32 hexadecimal digits, like /etc/machine-id.`,
    );
  }
  for (const file of signsOfTemporaryId) {
    const isThere = await access(path.join(root, file)).then(
      () => true,
      () => false,
    );
    if (isThere) return undefined;
  }
  return parseMachineId(await readFile(path.join(root, "etc/machine-id"), "utf8").catch(() => ""));
}

function parseMachineId(text: string): string | undefined {
  return /^[0-9a-f]{32}$/.test(text.trim()) ? text.trim() : undefined;
}

/** The id itself is confidential: see machine-id(5). */
function hashMachineId(machineId: string | undefined): string | undefined {
  if (machineId === undefined) return undefined;
  return createHmac("sha256", machineId).update(application).digest("hex").slice(0, 32);
}
