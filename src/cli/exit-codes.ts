/** The exit codes of `berth`. Scripts depend on them: see docs/cli.md, and never change one. */
export const exitCodes = {
  ok: 0,
  /** The command failed, or the credential does not permit it. */
  failed: 1,
  /** The command line or a document is invalid. The command changed nothing. */
  usage: 2,
  notFound: 3,
  /** The name is taken, or the state of the resource does not permit the change. */
  conflict: 4,
  /** The API or one of its dependencies is unreachable. The same command may succeed later. */
  unavailable: 5,
  /** A wait reached its timeout. Berth continues the work. */
  timedOut: 6,
  /** A wait ended early: no host fits the remaining sets. They stay pending until one does. */
  unplaceable: 7,
  /** A rollout did not complete: it is paused, has returned its sets, or was ended by another. */
  rolloutIncomplete: 8,
  /** Ctrl-C. */
  interrupted: 130,
  /** A session ended without the exit code of its program. */
  sessionFailed: 255,
} as const;
export type ExitCode = (typeof exitCodes)[keyof typeof exitCodes];
