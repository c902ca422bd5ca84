import type { UnsupportedSet } from "../../contracts/agent-protocol/read-desired-sets.ts";
import type { ObservedLocalSet } from "../model/local-set.ts";
import { advanceState } from "../model/set-state.ts";
import { noteReadiness } from "../set/drain.ts";
import { reportSet } from "../set/report-set.ts";
import {
  computeSpecKey,
  type DesiredLocalSet,
  hasComeUpBefore,
  noteRunning,
  type SetHistory,
} from "../set/set-history.ts";
import type { Verdict } from "../set/steps.ts";
import { judgeUnsupported } from "../set/unsupported-sets.ts";
import type { SetRunnerContext } from "./set-runner-context.ts";

/** A set as its runner knows it. */
interface ReportedSubject {
  setId: string;
  observed: ObservedLocalSet | undefined;
  history: SetHistory;
  /** The observation is current. */
  isFresh: boolean;
  nowMs: number;
}

/** Reports the verdict, and records the first one that says that all containers of a spec run. */
export function reportVerdict(
  { onRan, onReport }: Pick<SetRunnerContext, "onRan" | "onReport">,
  { setId, observed, history, isFresh, nowMs }: ReportedSubject,
  desired: DesiredLocalSet,
  verdict: Verdict,
): void {
  if (verdict.isComplete && !hasComeUpBefore(history)) {
    noteRunning(history);
    onRan(setId, computeSpecKey(desired));
    verdict.reason = null;
  }
  history.state = advanceState(history.state, verdict.state);
  const report = reportSet(desired, observed, history, { state: history.state, verdict, isFresh });
  noteReadiness(history.readiness, desired, observed, { isReady: report.ready, nowMs });
  onReport(report);
}

/** Judges and reports a set whose newest order this agent cannot read. */
export function reportUnsupported(
  { onReport, hasRunBefore }: Pick<SetRunnerContext, "onReport" | "hasRunBefore">,
  { setId, observed, history, isFresh, nowMs }: ReportedSubject,
  { order, known }: { order: UnsupportedSet; known: DesiredLocalSet | undefined },
): Verdict {
  const { verdict, report } = judgeUnsupported(
    { order, known, observed, history },
    { nowMs, isFresh, hasRun: hasRunBefore(setId) },
  );
  noteReadiness(history.readiness, known, observed, { isReady: false, nowMs });
  onReport(report);
  return verdict;
}
