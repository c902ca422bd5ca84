import { AgentError } from "../base/agent-error.ts";
import { isInfra } from "../model/container-names.ts";
import type { ListedContainer } from "../ports/container-port.ts";
import type { ExecPort } from "../ports/exec-port.ts";
import type { SessionPort, SessionTarget } from "../ports/session-port.ts";
import type { EngineContext } from "./engine-context.ts";

/** The ports that sessions need. */
export interface SessionPorts extends Pick<EngineContext, "containers" | "cgroups"> {
  execs: ExecPort;
}

/**
 * SessionPort over the ports to a machine. It refuses infra containers, whatever the control plane
 * requests (I10).
 */
export function createSessions({ containers, cgroups, execs }: SessionPorts): SessionPort {
  const find = async (target: SessionTarget, signal: AbortSignal): Promise<ListedContainer> => {
    const { setId, container: name } = target;
    if (isInfra({ name })) throw refused("Berth permits no session in an infra container.");
    const listed = await containers.list({ setId, phase: "observe" }, signal);
    const found = listed.find((container) => container.name === name);
    // Infra has a negative index, even under another name.
    if (!found || found.index < 0)
      throw refused(`The set has no container "${name}" on this host.`);
    if (found.dockerState !== "running")
      throw refused(`Container "${name}" does not run: it is ${found.dockerState}.`);
    return found;
  };
  return {
    async exec(target, open, signal) {
      if (open.command.length === 0) throw refused("The session names no program.");
      const { dockerId, setId } = await find(target, signal);
      const listProcesses = () => cgroups.listProcesses(setId, dockerId);
      const { sessionId } = target;
      return execs.exec({ dockerId, listProcesses }, { ...open, sessionId }, signal);
    },
    async attach(target, signal) {
      const { dockerId } = await find(target, signal);
      return execs.attach(dockerId, signal);
    },
  };
}

function refused(message: string): AgentError {
  return new AgentError("session-refused", message, { phase: "run", temporary: false });
}
