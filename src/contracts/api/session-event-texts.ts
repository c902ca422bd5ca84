import type { SessionKind } from "./sessions.ts";

interface SessionFacts {
  sessionId: string;
  kind: SessionKind;
  container: string;
  /** The name of the token that opened it. */
  by: string;
}

/** The name of a session: its program without arguments, which may contain secrets. */
function sessionText({ kind, container, program }: SessionFacts & { program: string | null }) {
  return `Session ${kind}${program === null ? "" : ` ${program}`} in container ${container}`;
}

type SessionEnded = SessionFacts & {
  program: string | null;
  seconds: number;
} & ({ exitCode: number } | { exitCode: null; reason: string });

/** The sentences of events about sessions: see event-texts.ts. */
export const sessionEventTexts = {
  "session-started": (facts: SessionFacts & { program: string | null }) =>
    `${sessionText(facts)} by ${facts.by}.`,
  "session-ended": (facts: SessionEnded) => {
    const outcome = facts.exitCode === null ? `: ${facts.reason}` : ` with code ${facts.exitCode}.`;
    return `${sessionText(facts)} by ${facts.by} ended after ${facts.seconds} s${outcome}`;
  },
  "session-refused": (facts: SessionFacts & { reason: string }) =>
    `Session ${facts.kind} in container ${facts.container} by ${facts.by} refused: ${facts.reason}`,
};
