import { createEmptySync } from "../reporting/send-sync.ts";
import type { Sync } from "../../contracts/agent-protocol/sync.ts";
import type { Log } from "../../lib/log.ts";
import type { Agent } from "./agent.ts";
import { isAborted, runAbortable } from "../../lib/async/abort.ts";
import { type Clock, createDeadline, sleep } from "../base/clock.ts";
import { type ControlPlane, NotAdmittedError } from "../ports/control-plane.ts";
import type { AgentState, StateStore } from "../ports/state-store.ts";
import { Refusals, type RefusalsOptions } from "./refusals.ts";
import { waitBeforeRetry } from "../reporting/retry-delay.ts";

/** Another boot managed the host a moment ago. The API decides within 10 s. */
const WAITING_MS = 1_000;
const IDLE_MS = 30_000;
const newState: AgentState = { acceptedGeneration: 0, desired: [], hasRun: {}, histories: {} };
const END_TIMEOUT_MS = 2_000;

export interface AdmittedAgentOptions {
  /** Creates the agent that manages the host. Called again after each admission. */
  createAgent: () => Agent;
  api: ControlPlane;
  state: StateStore;
  agentVersion: string;
  /**
   * The state was written on another machine. The agent manages nothing before the API has accepted
   * this machine, not even while the API is unreachable (I3).
   */
  isCopied: boolean;
  /** Called when the API has accepted the machine of a copied state. */
  onAccepted: () => Promise<void>;
  clock: Clock;
  limits: RefusalsOptions["limits"];
  /** True while the machine shuts down, so that its containers end too. */
  isMachineStopping: () => Promise<boolean>;
  /** In [0, 1). */
  random: () => number;
  log: Log;
}

/**
 * Runs the agent of a host while the API admits this process. Otherwise the process is idle: it
 * takes no step, leaves all containers as they are, and asks again. Two agents of one host would
 * run each set twice, or undo each other's steps. An unreachable API refuses nothing.
 *
 * Once an operator has deleted the host, its sets must not run on any machine. Then an idle agent
 * runs too: with the state of a deleted host, it only stops sets (I3).
 *
 * An idle agent does not exit. Its unit would restart it, and each restart would make it the newer
 * process, which the API prefers.
 *
 * Resolves after an abort. Rejects like Agent.run.
 */
export async function runAdmitted(
  options: AdmittedAgentOptions,
  signal: AbortSignal,
): Promise<void> {
  let refused: string | undefined = options.isCopied ? "another-machine" : undefined;
  let waitMs = 0;
  while (!signal.aborted) {
    if (refused !== undefined) {
      const outcome = await waitForAdmission(options, { refused, waitMs }, signal);
      if (outcome === "aborted") return;
      if (outcome === "deleted") await saveHostDeleted(options);
    }
    try {
      await options.createAgent().run(signal);
      return await reportEnd(options);
    } catch (error) {
      if (!(error instanceof NotAdmittedError)) throw error;
      refused = error.admission;
      waitMs = toWaitMs(refused);
    }
  }
}

/**
 * Resolves when the API accepts this process, when Berth has stated for some time that an operator
 * deleted the host, or after an abort.
 */
async function waitForAdmission(
  options: AdmittedAgentOptions,
  { refused, waitMs }: { refused: string; waitMs: number },
  signal: AbortSignal,
): Promise<"accepted" | "deleted" | "aborted"> {
  const { clock, limits, log, random } = options;
  const refusals = new Refusals({
    clock,
    log,
    limits,
    wasDeleted: false,
    onDeleted: () => undefined,
  });
  let admission = refused;
  let failuresInRow = 0;
  logIdle(options, admission);
  await sleep(clock, waitMs, signal);
  while (!isAborted(signal)) {
    try {
      const answer = await askForAdmission(options, signal);
      failuresInRow = 0;
      refusals.noteAccepted();
      if (answer === "accepted") return "accepted";
      if (answer !== admission) logIdle(options, answer);
      admission = answer;
      await sleep(clock, toWaitMs(admission), signal);
    } catch (error) {
      if (isAborted(signal)) return "aborted";
      refusals.noteFailed(error);
      if (refusals.status === "deleted") return "deleted";
      failuresInRow++;
      const pauseMs = (share: number) => refusals.pauseMs(share);
      const retryOptions = { clock, log, random, loop: "idle", pauseMs };
      await waitBeforeRetry(retryOptions, error, failuresInRow, signal);
    }
  }
  return "aborted";
}

/** The next agent has the state in its memory, even if the disk is full. */
async function saveHostDeleted({ state, log }: AdmittedAgentOptions): Promise<void> {
  const stored = (await state.load()) ?? newState;
  await state.save({ ...stored, isHostDeleted: true }).catch((error: unknown) => {
    log.error({ err: error }, "cannot save that an operator deleted this host");
  });
}

async function askForAdmission(
  options: AdmittedAgentOptions,
  signal: AbortSignal,
): Promise<string> {
  const { api, log, isCopied, onAccepted } = options;
  try {
    const { admission } = await api.sync(await createBareSync(options), signal);
    // An older API checks no machine, so it cannot accept that of a copied state.
    if (isCopied && admission !== "accepted") return "another-machine";
    if (isCopied) await onAccepted();
    log.info({}, "the control plane admits this agent: it manages the host");
    return "accepted";
  } catch (error) {
    if (error instanceof NotAdmittedError) return error.admission;
    throw error;
  }
}

function toWaitMs(admission: string): number {
  return admission === "wait" ? WAITING_MS : IDLE_MS;
}

function logIdle(
  { log, isCopied }: Pick<AdmittedAgentOptions, "log" | "isCopied">,
  admission: string,
): void {
  if (admission === "wait")
    log.info({}, "idle until the API knows that the previous boot of this host has ended");
  else if (isCopied && admission === "another-machine")
    log.error(
      { admission },
      "idle: the state file is from another machine, or the machine id has changed",
    );
  else log.error({ admission }, "idle: another agent manages this host");
}

/**
 * Reports the end of this boot, so that the API admits the next one without a wait. One attempt. If
 * only the agent ends, its containers run on: then the API must not admit a copy of the machine.
 */
async function reportEnd(options: AdmittedAgentOptions): Promise<void> {
  const { api, clock, log, isMachineStopping } = options;
  if (!(await isMachineStopping())) return;
  const onLate = () => {
    throw new Error("the agent stops");
  };
  const deadline = createDeadline(clock, END_TIMEOUT_MS, onLate);
  try {
    await runAbortable({ deadline }, async (signal) => {
      await api.sync(await createBareSync(options), signal, { isEnding: true });
    });
  } catch (error) {
    log.info({ err: error }, "the control plane does not know that the agent ends");
  }
}

async function createBareSync({ state, agentVersion }: AdmittedAgentOptions): Promise<Sync> {
  return createEmptySync(agentVersion, (await state.load())?.acceptedGeneration ?? 0);
}
