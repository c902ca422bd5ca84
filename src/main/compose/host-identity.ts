import { hostname } from "node:os";
import { setTimeout as pause } from "node:timers/promises";
import type { Dispatcher } from "undici";
import type { HostIdentity, StateFile } from "../../host-adapters/state-file/state-file.ts";
import { enrollHost } from "../../host-adapters/control-plane-client/control-plane.ts";
import { callBackoff, computeBackoffMs } from "../../agent/base/backoff.ts";
import { ControlPlaneError, RefusedError } from "../../agent/ports/control-plane.ts";
import type { MachinePort } from "../../agent/ports/machine-port.ts";
import type { AgentSettings } from "../../config/host-agent.ts";
import type { Enroll } from "../../contracts/agent-protocol/enroll.ts";
import { AGENT_PROTOCOL_VERSION } from "../../contracts/agent-protocol/protocol.ts";
import type { Log } from "../../lib/log.ts";
import type { ProcessContext } from "./run-process.ts";

export interface IdentityOptions {
  settings: AgentSettings;
  apiUrl: string;
  dispatcher: Dispatcher;
  machine: MachinePort;
  state: StateFile;
  /** The hash of the id of this machine. Undefined without a lasting id. */
  machineId: string | undefined;
  /** Called only if this host is not enrolled yet. */
  enrollToken: () => Promise<string>;
}

/**
 * Returns this host's identity from its state file, after an enrollment if necessary. A lost
 * response or a killed agent wastes no token, because the next attempt repeats the same request.
 */
export async function obtainIdentity(
  options: IdentityOptions,
  context: ProcessContext,
  signal: AbortSignal,
): Promise<HostIdentity> {
  const { settings, apiUrl, dispatcher, machine, state, enrollToken, machineId } = options;
  const known = await state.loadIdentity();
  if (known && (known.machineId !== undefined || machineId === undefined)) return known;
  if (known) {
    // An older release enrolled the host.
    await bindMachine(state, machineId, context.log);
    return known;
  }
  const credential = await state.beginEnrollment();
  const enroll = { ...(await describeHost(settings, machine, context.version)), credential };
  const target = { apiUrl, dispatcher, enrollToken: await enrollToken() };
  const identity = await enrollUntilAnswered(target, enroll, context, signal);
  await state.saveIdentity({ ...identity, machineId });
  context.log.info({ hostId: identity.hostId, name: enroll.name }, "enrolled");
  return identity;
}

/**
 * Stores the machine to which the state belongs. A full disk must not end the agent, which frees
 * space: the next save stores the machine too.
 */
export async function bindMachine(
  state: StateFile,
  machineId: string | undefined,
  log: Log,
): Promise<void> {
  if (machineId === undefined) return;
  await state.bindMachine(machineId).catch((error: unknown) => {
    log.error({ err: error }, "cannot save the id of this machine");
  });
}

/** Retries while the API is unreachable. Any other response of Berth is final. */
async function enrollUntilAnswered(
  target: Parameters<typeof enrollHost>[0],
  enroll: Enroll,
  { log }: ProcessContext,
  signal: AbortSignal,
): Promise<HostIdentity> {
  for (let failuresInRow = 1; ; failuresInRow++) {
    try {
      return await enrollHost(target, enroll, signal);
    } catch (error) {
      if (!isUnreachable(error) || signal.aborted) throw error;
      log.warn({ err: error, failuresInRow }, "enrollment failed, retrying");
      await pause(computeBackoffMs(callBackoff, failuresInRow, Math.random()), undefined, {
        signal,
      });
    }
  }
}

/** True if no answer came from Berth, or if it may succeed later. */
function isUnreachable(error: unknown): boolean {
  if (!(error instanceof ControlPlaneError)) return false;
  if (error instanceof RefusedError) return error.provenCode === undefined;
  return error.status === undefined || error.status >= 500;
}

async function describeHost(
  settings: AgentSettings,
  machine: MachinePort,
  version: string,
): Promise<Enroll> {
  const { allocatable } = await machine.measure(0);
  return {
    protocol: AGENT_PROTOCOL_VERSION,
    name: settings.BERTH_AGENT_NAME ?? machineName(),
    zone: settings.BERTH_AGENT_ZONE,
    rack: settings.BERTH_AGENT_RACK,
    labels: settings.BERTH_AGENT_LABELS,
    allocatable,
    agentVersion: version,
  };
}

/** The first label of the machine's host name, reduced to a valid name. */
function machineName(): string {
  const [first = ""] = hostname().toLowerCase().split(".");
  const name = first.replace(/[^a-z0-9-]+/g, "-").slice(0, 63);
  return name.replace(/^-+|-+$/g, "") || "host";
}
