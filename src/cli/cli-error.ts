import type { FieldError } from "../contracts/common/app-error.ts";
import { problemCatalogue, type ProblemCode } from "../contracts/common/problems.ts";
import { type ExitCode, exitCodes } from "./exit-codes.ts";

export interface CliErrorOptions {
  exitCode: ExitCode;
  /** What to do about it, as sentences or commands. */
  hints?: readonly string[];
  errors?: readonly FieldError[];
  requestId?: string;
  /** The problem's code, when the API answered with one. */
  code?: string;
  cause?: unknown;
}

/** The one error that commands end with: a sentence for people, what to do, and the exit code. */
export class CliError extends Error {
  override readonly name = "CliError";
  readonly exitCode: ExitCode;
  readonly hints: readonly string[];
  readonly errors: readonly FieldError[];
  readonly requestId: string | undefined;
  readonly code: string | undefined;

  constructor(message: string, options: CliErrorOptions) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.exitCode = options.exitCode;
    this.hints = options.hints ?? [];
    this.errors = options.errors ?? [];
    this.requestId = options.requestId;
    this.code = options.code;
  }
}

export function usageError(message: string, ...hints: string[]): CliError {
  return new CliError(message, { exitCode: exitCodes.usage, hints });
}

/** The members of a problem document that the command line shows (RFC 9457 with Berth's extensions). */
export interface ProblemDocument {
  status: number;
  code?: string;
  title?: string;
  detail?: string;
  requestId?: string;
  errors?: FieldError[];
  retryAfterMs?: number;
}

/** A CliError for an answer of 400 or above. Unknown codes, of a newer API, are told by their status. */
export function problemError(problem: ProblemDocument): CliError {
  const { code, status } = problem;
  const known = code !== undefined && code in problemCatalogue ? (code as ProblemCode) : undefined;
  return new CliError(
    problem.detail ?? problem.title ?? `The API answered with status ${status}.`,
    {
      exitCode: known === "quota-exceeded" ? exitCodes.failed : exitCodeOfStatus(status),
      hints: known ? hintsOf(known, problem) : [],
      errors: problem.errors ?? [],
      ...(problem.requestId === undefined ? {} : { requestId: problem.requestId }),
      ...(code === undefined ? {} : { code }),
    },
  );
}

function exitCodeOfStatus(status: number): ExitCode {
  if (status === 404) return exitCodes.notFound;
  if (status === 409 || status === 412) return exitCodes.conflict;
  if ([400, 413, 415, 422, 428].includes(status)) return exitCodes.usage;
  if ([429, 502, 503, 504].includes(status)) return exitCodes.unavailable;
  return exitCodes.failed;
}

function hintsOf(code: ProblemCode, problem: ProblemDocument): string[] {
  switch (code) {
    case "unauthenticated":
      return [
        "Set BERTH_TOKEN or BERTH_TOKEN_FILE, or name a context of ~/.config/berth/config.json with --context.",
        "`berth up` keeps an admin token in its data directory, and `berth` finds it there when both run in the same directory.",
      ];
    case "forbidden":
      return [
        "Use a token of another role: an admin makes one with `berth token create NAME --role ROLE`.",
      ];
    case "not-found":
      return [
        "`berth get services`, `get sets` and so on list what there is; --tenant names another tenant.",
      ];
    case "generation-mismatch":
      return ["Somebody else changed it meanwhile. Look at it with `berth get`, then try again."];
    case "grant-missing":
      return [
        "`berth tenant get NAME` shows the grants, and an admin changes them with `berth tenant set`.",
      ];
    case "quota-exceeded":
      return ["`berth get tenants` shows the quotas; an admin can raise them."];
    case "capacity-insufficient":
      return ["`berth get hosts` shows what room there is; `berth explain` says what it lacks."];
    case "rate-limited":
    case "dependency-unavailable":
    case "overloaded":
    case "outcome-unknown":
    case "request-timeout":
    case "idempotency-in-progress":
      return [
        problem.retryAfterMs === undefined
          ? "Try again in a moment."
          : `Try again in ${Math.ceil(problem.retryAfterMs / 1000)} s.`,
      ];
    case "internal":
      return ["The API's log has the cause under the request id."];
    case "malformed-request":
    case "method-not-allowed":
    case "already-exists":
    case "state-conflict":
    case "idempotency-conflict":
    case "body-too-large":
    case "unsupported-media-type":
    case "invalid-request":
    case "unsupported":
    case "generation-required":
    case "idempotency-key-required":
      return [];
  }
}
