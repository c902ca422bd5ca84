import type { SessionOpen } from "../../contracts/sessions/frames.ts";
import type { SessionProcess } from "./session-port.ts";

/** Programs in containers of a machine, as Docker runs them. A call rejects with AgentError. */
export interface ExecPort {
  /** @param listProcesses lists the processes of the container: no other is ever signaled */
  exec(
    container: { dockerId: string; listProcesses: () => Promise<readonly number[]> },
    options: SessionOpen & { sessionId: string },
    signal: AbortSignal,
  ): Promise<SessionProcess>;
  attach(dockerId: string, signal: AbortSignal): Promise<SessionProcess>;
}
