import { AppError } from "../contracts/common/app-error.ts";
import { ConnectionLost } from "./postgres/pipelined-transaction.ts";

/** The error for a violated constraint, by constraint name. */
const constraintProblems: Record<
  string,
  { code: "already-exists" | "invalid-request"; detail: string }
> = {
  services_name_unique: {
    code: "already-exists",
    detail: "A service of this name already exists.",
  },
  tenants_name_unique: { code: "already-exists", detail: "A tenant of this name already exists." },
  hosts_name_unique: { code: "already-exists", detail: "A host of this name is already enrolled." },
  hooks_name_unique: {
    code: "already-exists",
    detail: "The service already has a hook of this name.",
  },
};

interface DriverError {
  code: string;
  constraint?: string;
}

/** Codes of the driver and the kernel for a connection that was closed before it answered. */
const closingCodes = new Set([
  "CONNECTION_CLOSED",
  "CONNECTION_DESTROYED",
  "CONNECTION_ENDED",
  "ECONNRESET",
  "EPIPE",
  "57P02",
]);

const CAUSES_MAX = 8;

/** Lists the error and its causes, outermost first. */
function listCauses(error: unknown): Error[] {
  const causes: Error[] = [];
  for (let cause = error; cause instanceof Error && causes.length < CAUSES_MAX; cause = cause.cause)
    causes.push(cause);
  return causes;
}

/**
 * Finds the driver's error. drizzle wraps it in an error whose message contains bound values, so
 * never log or return the wrapper. postgres.js names the constraint `constraint_name`, PGlite names
 * it `constraint`.
 */
function findDriverError(error: unknown): DriverError | undefined {
  for (const cause of listCauses(error)) {
    if (!("code" in cause) || typeof cause.code !== "string") continue;
    const constraint =
      "constraint_name" in cause
        ? cause.constraint_name
        : "constraint" in cause
          ? cause.constraint
          : undefined;
    return { code: cause.code, ...(typeof constraint === "string" ? { constraint } : {}) };
  }
  return undefined;
}

/** Finds the SQLSTATE of a failed statement. Returns undefined for other errors. */
export function findSqlState(error: unknown): string | undefined {
  const code = findDriverError(error)?.code;
  return code !== undefined && /^[0-9A-Z]{5}$/.test(code) ? code : undefined;
}

/** Converts an error of a driver to an AppError. Returns other errors unchanged. */
export function toAppError(error: unknown): unknown {
  const known = listCauses(error).find((cause) => cause instanceof AppError);
  if (known) return known;
  const driverError = findDriverError(error);
  if (!driverError) return error;
  const problem = constraintProblems[driverError.constraint ?? ""];
  if (problem)
    return new AppError(problem.code, { detail: problem.detail, cause: safeCause(driverError) });
  if (isOutcomeUnknown(error, driverError)) {
    return new AppError("outcome-unknown", {
      detail:
        "The database connection was lost before the answer came. The change may have been stored. Retry the request with the same `Idempotency-Key`, or read the state first.",
      retryAfterMs: 1_000,
      cause: safeCause(driverError),
    });
  }
  if (isUnavailable(driverError.code)) {
    return new AppError("dependency-unavailable", {
      detail: "The database is unavailable.",
      retryAfterMs: 1_000,
      cause: safeCause(driverError),
    });
  }
  return new AppError("internal", {
    detail: "The database refused a statement.",
    meta: { sqlState: driverError.code, constraint: driverError.constraint },
    cause: safeCause(driverError),
  });
}

/**
 * Whether Postgres may have stored a change although the response is lost. A transaction knows
 * whether it sent its commit. A single statement may have committed unless it is a read.
 */
function isOutcomeUnknown(error: unknown, { code }: DriverError): boolean {
  const lost = listCauses(error).find((cause) => cause instanceof ConnectionLost);
  if (lost) return lost.isCommitSent;
  return closingCodes.has(code) && !isRead(error);
}

function isRead(error: unknown): boolean {
  for (const cause of listCauses(error)) {
    if ("query" in cause && typeof cause.query === "string")
      return /^\s*select\b/i.test(cause.query);
  }
  return false;
}

/**
 * Connection trouble (class 08, 57P0x, driver codes), overload (53xxx), and timeouts (57014,
 * 55P03), and a server that became a standby (25006).
 */
function isUnavailable(code: string): boolean {
  return (
    /^(08|53|57P0)/.test(code) ||
    ["57014", "55P03", "40001", "40P01", "25P03", "25006"].includes(code) ||
    !/^[0-9A-Z]{5}$/.test(code)
  );
}

/** Only code and constraint: the driver's own error may carry values of the statement. */
function safeCause(driverError: DriverError): Error {
  return new Error(
    `SQLSTATE ${driverError.code}${driverError.constraint ? ` on ${driverError.constraint}` : ""}`,
  );
}
