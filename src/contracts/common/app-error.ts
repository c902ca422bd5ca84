import { problemCatalogue, type ProblemCode } from "./problems.ts";

/** One thing that is wrong with a request: where (RFC 6901 pointer into the body, or a parameter's name) and what to do. */
export interface FieldError {
  pointer: string;
  detail: string;
}

export interface AppErrorOptions {
  /** What the caller may read: says what is wrong and what to do. Never carries internals. */
  detail: string;
  /** For logs only. */
  meta?: Record<string, unknown>;
  errors?: readonly FieldError[];
  /** When to try again, for retryable codes. */
  retryAfterMs?: number;
  cause?: unknown;
}

/**
 * The one error class that crosses module borders. Thrown by I/O layers; the pure core returns values instead.
 * `code` decides everything that follows: HTTP status in routes, retry or give up in jobs.
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
    return problemCatalogue[this.code].retryable;
  }
}

/** The same 404 for what does not exist and for what the caller may not know of (I9). */
export function notFound(what: string): AppError {
  return new AppError("not-found", { detail: `There is no such ${what}, or it is not yours.` });
}
