import { hostname } from "node:os";
import { setTimeout as pause } from "node:timers/promises";
import type { Dispatcher } from "undici";
import type { HostIdentity, StateFile } from "../../agent/adapters/files/state-file.ts";
import { enrollHost } from "../../agent/adapters/http/control-plane.ts";
import { callBackoffMs } from "../../agent/clock.ts";
import { ControlPlaneError } from "../../agent/ports/control-plane.ts";
import type { MachinePort } from "../../agent/ports/machine-port.ts";
import type { AgentSettings } from "../../config/host-agent.ts";
import { AGENT_PROTOCOL_VERSION, type Enroll } from "../../contracts/agent-protocol/protocol.ts";
import type { ProcessContext } from "./run-process.ts";

export interface IdentityOptions {
  settings: AgentSettings;
  apiUrl: string;
  dispatcher: Dispatcher;
  machine: MachinePort;
  state: StateFile;
  /** Asked for only when this host is not enrolled yet. */
  enrollToken: () => Promise<string>;
}

/**
 * Who this host is for the control plane, of its state file; it is enrolled first when that does not say it yet. An answer that is
 * lost, or an agent that is killed before it has come, costs no token: the same is asked for again.
 */
export async function obtainIdentity(
  options: IdentityOptions,
  running: ProcessContext,
  signal: AbortSignal,
): Promise<HostIdentity> {
  const { settings, apiUrl, dispatcher, machine, state, enrollToken } = options;
  const known = await state.loadIdentity();
  if (known) return known;
  const credential = await state.beginEnrollment();
  const enroll = { ...(await describeHost(settings, machine, running.version)), credential };
  const target = { apiUrl, dispatcher, enrollToken: await enrollToken() };
  const identity = await enrollUntilAnswered(target, enroll, running, signal);
  await state.saveIdentity(identity);
  running.log.info({ hostId: identity.hostId, name: enroll.name }, "enrolled");
  return identity;
}

/** Goes on while the API is away; what it answers in earnest is final. */
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
      const isAway =
        error instanceof ControlPlaneError && (error.status === undefined || error.status >= 500);
      if (!isAway || signal.aborted) throw error;
      log.warn({ err: error, failuresInRow }, "not enrolled yet");
      await pause(callBackoffMs(failuresInRow, Math.random()), undefined, { signal });
    }
  }
}

async function describeHost(
  settings: AgentSettings,
  machine: MachinePort,
  version: string,
): Promise<Enroll> {
  const { allocatable } = await machine.measure();
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

/** The first part of the machine's host name, as far as it is one that a host may have. */
function machineName(): string {
  const [first = ""] = hostname().toLowerCase().split(".");
  const name = first.replace(/[^a-z0-9-]+/g, "-").slice(0, 63);
  return name.replace(/^-+|-+$/g, "") || "host";
}
