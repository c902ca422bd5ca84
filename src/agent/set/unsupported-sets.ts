import type { ObservedSet } from "../../contracts/agent-protocol/observed-set.ts";
import type { UnsupportedSet } from "../../contracts/agent-protocol/read-desired-sets.ts";
import { renderReasonText } from "../../contracts/api/reason-texts.ts";
import type { ObservedLocalSet } from "../model/local-set.ts";
import { findDrainedAtMs } from "./drain.ts";
import { reconcile } from "./reconcile.ts";
import { reportSet } from "./report-set.ts";
import type { DesiredLocalSet, SetHistory } from "./set-history.ts";
import { isAnyUp, noStep, stepWhenDue, type Verdict } from "./steps.ts";

interface Subject {
  order: UnsupportedSet;
  /** The last description of the set that this agent could read. */
  known: DesiredLocalSet | undefined;
  observed: ObservedLocalSet | undefined;
  history: SetHistory;
}

interface Circumstances {
  nowMs: number;
  /** The observation is current. */
  isFresh: boolean;
  /** The set has run on this host. */
  hasRun: boolean;
}

/** The verdict on a set whose description this agent cannot read, and the report of it. */
export function judgeUnsupported(
  subject: Subject,
  circumstances: Circumstances,
): { verdict: Verdict; report: ObservedSet } {
  const verdict = reconcileUnsupported(subject, circumstances.nowMs);
  return { verdict, report: reportUnsupported(subject, verdict, circumstances) };
}

/**
 * The verdict on a set whose description this agent cannot read (I17). It stops and deletes the set
 * as ordered, which needs no description. A set that should run is neither started nor stopped. If
 * an older description is known, the agent continues to manage the set by that.
 */
function reconcileUnsupported(
  { order, known, observed, history }: Subject,
  nowMs: number,
): Verdict {
  const drainedAtMs = findDrainedAtMs(known, observed, history.readiness, nowMs);
  if (order.desired === "deleted") {
    return observed
      ? stepWhenDue({ kind: "remove" }, "stopping", history, { nowMs, drainedAtMs })
      : noStep("absent");
  }
  if (order.desired === "stopped") {
    return isAnyUp(observed)
      ? stepWhenDue({ kind: "stop-all" }, "stopping", history, { nowMs, drainedAtMs })
      : noStep("stopped");
  }
  const code = "agent-too-old";
  const text = renderReasonText(code, { detail: order.detail });
  const mayManage = known?.desired === "running" && observed !== undefined;
  const verdict = mayManage ? reconcile(known, observed, history, nowMs) : noStep("failed");
  const reason = { code, text, phase: "prepare" };
  return { ...verdict, state: "failed", ready: false, reason };
}

/**
 * Reports an unsupported set. Berth may place it on another host only if nothing of it is here: the
 * downgrade of an agent must not move its running sets.
 */
function reportUnsupported(
  { order, known, observed, history }: Subject,
  verdict: Verdict,
  { isFresh, hasRun }: Circumstances,
): ObservedSet {
  const { state, reason } = verdict;
  const isBound = observed !== undefined || hasRun || (order.restoreVolumeId ?? null) !== null;
  const seen = known && reportSet(known, observed, history, { state, verdict, isFresh });
  return {
    setId: order.setId,
    generation: order.generation,
    state,
    ready: false,
    reason,
    gaveUp: state === "failed" && isFresh && !isBound,
    address: observed?.address ?? null,
    // The sizes are those of an older description, or unknown.
    sized: isFresh && observed === undefined,
    sizeRefused: false,
    containers: state === "absent" ? [] : (seen?.containers ?? []),
  };
}
