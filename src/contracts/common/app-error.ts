import { problemCatalog, type ProblemCode } from "./problems.ts";

/**
 * One fault of a request: an RFC 6901 pointer into the body or a parameter's name, and the remedy.
 */
export interface FieldError {
  pointer: string;
  detail: string;
}

export interface AppErrorOptions {
  /** The sentences for the caller: the fault and the remedy. Never contains internals. */
  detail: string;
  /** For logs only. */
  meta?: Record<string, unknown>;
  errors?: readonly FieldError[];
  /** The time before a retry: for retryable codes, and for a brief conflict. */
  retryAfterMs?: number;
  cause?: unknown;
}

/**
 * The only error class that crosses module borders. I/O layers throw it; the pure core returns
 * values instead. `code` determines the HTTP status in routes, and whether a job retries.
 */
export class AppError extends Error {
  override readonly name = "AppError";
  readonly code: ProblemCode;
  readonly publicDetail: string;
  readonly meta: Record<string, unknown>;
  readonly errors: readonly FieldError[];
  readonly retryAfterMs: number | undefined;

  constructor(code: ProblemCode, options: AppErrorOptions) {
    super(
      `${code}: ${options.detail}`,
      options.cause === undefined ? undefined : { cause: options.cause },
    );
    this.code = code;
    this.publicDetail = options.detail;
    this.meta = options.meta ?? {};
    this.errors = options.errors ?? [];
    this.retryAfterMs = options.retryAfterMs;
  }

  get retryable(): boolean {
    return problemCatalog[this.code].retryable;
  }
}

/**
 * The error for an object that does not exist or that the caller must not know of: both cases have
 * the same response (I9).
 */
export function notFound(noun: string): AppError {
  const detail = `${noun.charAt(0).toUpperCase()}${noun.slice(1)} not found.`;
  return new AppError("not-found", { detail });
}
