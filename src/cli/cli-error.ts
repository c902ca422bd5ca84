import type { FieldError } from "../contracts/common/app-error.ts";
import { problemCatalog, type ProblemCode } from "../contracts/common/problems.ts";
import { type ExitCode, exitCodes } from "./exit-codes.ts";

export interface CliErrorOptions {
  exitCode: ExitCode;
  /** The remedies, as sentences or commands. */
  hints?: readonly string[];
  errors?: readonly FieldError[];
  requestId?: string;
  /** The code of the problem document, if the API sent one. */
  code?: string;
  cause?: unknown;
}

/** The error of every failed command: a sentence for users, remedies, and the exit code. */
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

/** The members that the command line shows of a problem document (RFC 9457, with extensions). */
export interface ProblemDocument {
  status: number;
  code?: string;
  title?: string;
  detail?: string;
  requestId?: string;
  errors?: FieldError[];
  retryAfterMs?: number;
}

/** Converts a response of 400 or above. The status decides the exit code of an unknown code. */
export function problemError(problem: ProblemDocument): CliError {
  const { code, status } = problem;
  const known = code !== undefined && code in problemCatalog ? (code as ProblemCode) : undefined;
  return new CliError(problem.detail ?? problem.title ?? `The API returned status ${status}.`, {
    exitCode: known === "quota-exceeded" ? exitCodes.failed : exitCodeOfStatus(status),
    hints: known ? hintsOf(known, problem) : [],
    errors: problem.errors ?? [],
    ...(problem.requestId === undefined ? {} : { requestId: problem.requestId }),
    ...(code === undefined ? {} : { code }),
  });
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
        "Set BERTH_TOKEN or BERTH_TOKEN_FILE, or select a context of ~/.config/berth/config.json with --context.",
        "If `berth up` runs on this machine, run `berth` in the directory where you started it: it finds the admin token there.",
      ];
    case "forbidden":
      return [
        "Use a token of another role. An admin creates it with `berth token create NAME --role ROLE`.",
      ];
    case "not-found":
      return [
        "`berth get KIND` lists the resources of your tenant. --tenant selects another tenant.",
      ];
    case "encryption-key-missing":
      return [
        "The operator sets BERTH_ENCRYPTION_KEYS of the API: see docs/guides/private-registries.md.",
      ];
    case "generation-mismatch":
      return [
        "Another request changed it at the same time. Check it with `berth get`, then retry.",
      ];
    case "grant-missing":
      return [
        "`berth tenant get NAME` shows the grants. An admin changes them with `berth tenant update`.",
      ];
    case "quota-exceeded":
      return [
        "`berth get tenants` shows the quotas. An admin raises them with `berth tenant update`.",
      ];
    case "capacity-insufficient":
      return ["`berth get hosts` shows the capacity. `berth explain SERVICE` shows the shortage."];
    case "rate-limited":
    case "dependency-unavailable":
    case "overloaded":
    case "outcome-unknown":
    case "request-timeout":
    case "idempotency-in-progress":
      return [
        problem.retryAfterMs === undefined
          ? "Retry in a moment."
          : `Retry in ${Math.ceil(problem.retryAfterMs / 1000)} s.`,
      ];
    case "internal":
      return ["The log of the API has the cause under the request id."];
    case "malformed-request":
    case "host-deleted":
    case "method-not-allowed":
    case "wrong-endpoint":
    case "already-exists":
    case "state-conflict":
    case "idempotency-conflict":
    case "body-too-large":
    case "delivery-too-large":
    case "unsupported-media-type":
    case "invalid-request":
    case "unsupported":
    case "generation-required":
    case "idempotency-key-required":
      return [];
  }
}
