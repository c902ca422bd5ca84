import { isAborted } from "../../lib/async/abort.ts";
import type { LocalSetSpec, ProbeResult, ProbeTarget } from "../model/local-set.ts";
import type { ListedContainer } from "../ports/container-port.ts";
import type { EngineContext } from "./engine-context.ts";
import { runCheck } from "./run-probe.ts";

/** SetPort.postStart. */
export async function runPostStart(
  context: EngineContext,
  set: LocalSetSpec,
  { container: { dockerId, name }, address }: ProbeTarget,
  signal: AbortSignal,
): Promise<ProbeResult> {
  const check = findHooks(set, name)?.postStart;
  if (!check) return { healthy: true };
  return runCheck(context, set, { dockerId, address, check }, signal);
}

/**
 * Runs the hook before the stop of a container. The container stops although the hook fails, so the
 * failure is only logged.
 */
export async function runPreStop(
  context: EngineContext,
  set: LocalSetSpec,
  { dockerId, name, address }: Pick<ListedContainer, "dockerId" | "name" | "address">,
  signal: AbortSignal,
): Promise<void> {
  const check = findHooks(set, name)?.preStop;
  if (!check) return;
  const log = context.log.child({ setId: set.setId, container: name });
  try {
    const result = await runCheck(context, set, { dockerId, address, check }, signal);
    if (!result.healthy) log.warn({ detail: result.detail }, "the hook before the stop failed");
  } catch (error) {
    if (isAborted(signal)) throw error;
    log.warn({ err: error }, "cannot run the hook before the stop");
  }
}

function findHooks({ template }: LocalSetSpec, name: string) {
  return template.containers.find((container) => container.name === name)?.options.hooks;
}
