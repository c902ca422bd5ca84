/** What `berth` ends with. Scripts depend on these: see docs/cli.md, and never change one. */
export const exitCodes = {
  ok: 0,
  /** It was tried and did not work; also: the credential does not allow it. */
  failed: 1,
  /** The command line or a document is not valid; nothing was tried. */
  usage: 2,
  notFound: 3,
  /** The name is taken, or the thing has changed or is in a state that does not allow it. */
  conflict: 4,
  /** The API, or something that it needs, cannot be reached. The same command may work later. */
  unavailable: 5,
  /** A wait ended before what was waited for came about. What was asked for goes on. */
  timedOut: 6,
  /** Ctrl-C. */
  interrupted: 130,
} as const;
export type ExitCode = (typeof exitCodes)[keyof typeof exitCodes];
