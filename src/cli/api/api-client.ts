import { CliError, problemError, type ProblemDocument } from "../cli-error.ts";
import { exitCodes } from "../exit-codes.ts";
import type { FetchFunction, HttpResponse } from "./http-fetch.ts";

export interface ApiClientOptions {
  /** Base URL, such as http://127.0.0.1:7460. */
  apiUrl: string;
  token: string | undefined;
  /** Sent as Berth-Tenant; undefined leaves it to the API. */
  tenant: string | undefined;
  userAgent: string;
  fetch: FetchFunction;
  /** Aborts every request: Ctrl-C. */
  signal: AbortSignal;
}

export interface RequestOptions {
  body?: unknown;
  query?: Record<string, string | number | boolean | undefined> | undefined;
  /** Sent as If-Match. */
  generation?: number;
  timeoutMs?: number;
  signal?: AbortSignal;
}

interface OpenOptions extends RequestOptions {
  /** Sends the request once, even after a 503. For requests that the API holds for seconds. */
  isTriedOnce?: boolean;
  accept?: string;
  headers?: Record<string, string>;
}

const REQUEST_TIMEOUT_MS = 30_000;
const ATTEMPTS_MAX = 3;
const RETRY_AFTER_MAX_MS = 2_000;

/**
 * Sends requests to the API over HTTP. Every failure is a CliError.
 *
 * Retries a GET or POST at most twice: after a broken connection, a 429 or a 503. A POST carries an
 * Idempotency-Key, so a repeated POST has one effect. A refused connection fails immediately.
 * The strict schemas of the contracts do not parse responses, because a newer API may add members.
 */
export class ApiClient {
  readonly options: ApiClientOptions;

  constructor(options: ApiClientOptions) {
    this.options = options;
  }

  /** Resolves with the JSON body of the response, or undefined for 204. */
  async request<T>(method: string, path: string, options: RequestOptions = {}): Promise<T> {
    const response = await this.open(method, path, options);
    if (response.status === 204) return undefined as T;
    if (!isJson(response)) throw this.#notBerth(response);
    return (await this.#guard(response.json(), options)) as T;
  }

  /** Gets a resource, or undefined after a 404. */
  async find<T>(path: string): Promise<T | undefined> {
    try {
      return await this.request<T>("GET", path);
    } catch (error) {
      if (error instanceof CliError && error.exitCode === exitCodes.notFound) return undefined;
      throw error;
    }
  }

  /**
   * Resolves with a successful response. The caller reads its body, which may be a stream.
   * `timeoutMs` limits headers and body together; 0 sets no limit.
   */
  async open(method: string, path: string, options: OpenOptions = {}): Promise<HttpResponse> {
    const isRepeatable = (method === "GET" || method === "POST") && options.isTriedOnce !== true;
    const idempotencyKey = method === "POST" ? crypto.randomUUID() : undefined;
    for (let attempt = 1; ; attempt++) {
      try {
        const response = await this.#send(method, path, options, idempotencyKey);
        if (response.ok) return response;
        const problem = await this.#readProblem(response);
        const canRetry = isRepeatable && [429, 503].includes(response.status);
        if (!canRetry || attempt === ATTEMPTS_MAX) throw problemError(problem);
        await this.#pause(Math.min(problem.retryAfterMs ?? backoffMs(attempt), RETRY_AFTER_MAX_MS));
      } catch (error) {
        if (error instanceof CliError) throw error;
        const failure = this.#connectionError(error, options);
        if (!isRepeatable || attempt === ATTEMPTS_MAX || !isBrokenConnection(error)) throw failure;
        await this.#pause(backoffMs(attempt));
      }
    }
  }

  async #send(
    method: string,
    path: string,
    options: OpenOptions,
    idempotencyKey: string | undefined,
  ): Promise<HttpResponse> {
    const { token, tenant, userAgent } = this.options;
    const headers: Record<string, string> = {
      Accept: options.accept ?? "application/json",
      "User-Agent": userAgent,
      ...options.headers,
    };
    if (token !== undefined) headers["Authorization"] = `Bearer ${token}`;
    if (tenant !== undefined) headers["Berth-Tenant"] = tenant;
    if (idempotencyKey !== undefined) headers["Idempotency-Key"] = idempotencyKey;
    if (options.generation !== undefined) headers["If-Match"] = `"${options.generation}"`;
    if (options.body !== undefined) headers["Content-Type"] = "application/json";
    return await this.options.fetch(urlOf(this.options.apiUrl, path, options.query), {
      method,
      headers,
      signal: this.#signalOf(options),
      ...(options.body === undefined ? {} : { body: JSON.stringify(options.body) }),
    });
  }

  #signalOf(options: RequestOptions): AbortSignal {
    const signals = [this.options.signal];
    if (options.signal) signals.push(options.signal);
    const timeoutMs = options.timeoutMs ?? REQUEST_TIMEOUT_MS;
    if (timeoutMs > 0) signals.push(AbortSignal.timeout(timeoutMs));
    return AbortSignal.any(signals);
  }

  async #readProblem(response: HttpResponse): Promise<ProblemDocument> {
    if (!isJson(response)) {
      for await (const _ of response.body ?? []) break; // closes the connection
      throw this.#notBerth(response);
    }
    const body = (await response.json()) as Partial<ProblemDocument>;
    return { ...body, status: response.status };
  }

  async #guard<T>(reading: Promise<T>, options: RequestOptions): Promise<T> {
    try {
      return await reading;
    } catch (error) {
      throw this.#connectionError(error, options);
    }
  }

  #notBerth(response: HttpResponse): CliError {
    const type = response.headers.get("content-type") ?? "no content type";
    return new CliError(
      `${this.options.apiUrl} returned status ${response.status} and ${type}, so it is not Berth's API.`,
      {
        exitCode: exitCodes.unavailable,
        hints: ["Check BERTH_API_URL or --api-url. A proxy may have responded instead of the API."],
      },
    );
  }

  #connectionError(error: unknown, options: RequestOptions): CliError {
    if (this.options.signal.aborted || options.signal?.aborted)
      return new CliError("Interrupted.", { exitCode: exitCodes.interrupted, cause: error });
    const { apiUrl } = this.options;
    if (error instanceof Error && error.name === "TimeoutError") {
      return new CliError(`${apiUrl} did not respond before the timeout.`, {
        exitCode: exitCodes.unavailable,
        cause: error,
      });
    }
    return new CliError(`Cannot reach the API at ${apiUrl}: ${describeCause(error)}.`, {
      exitCode: exitCodes.unavailable,
      hints: [
        "`berth up` runs Berth on this machine.",
        "Set another URL with --api-url, BERTH_API_URL or a context of ~/.config/berth/config.json.",
      ],
      cause: error,
    });
  }

  async #pause(durationMs: number): Promise<void> {
    await new Promise((resolve) => setTimeout(resolve, durationMs));
  }
}

function urlOf(apiUrl: string, path: string, query: RequestOptions["query"] = {}): string {
  const url = new URL(apiUrl.replace(/\/+$/, "") + path);
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined) url.searchParams.set(name, String(value));
  }
  return url.href;
}

function isJson(response: HttpResponse): boolean {
  return /^application\/(json|problem\+json)\b/.test(response.headers.get("content-type") ?? "");
}

function backoffMs(attempt: number): number {
  return 200 * 2 ** (attempt - 1);
}

function causeCode(error: unknown): string | undefined {
  for (let at = error; at instanceof Error; at = at.cause) {
    const { code } = at as { code?: unknown };
    if (typeof code === "string") return code;
    if (at instanceof AggregateError && at.errors.length > 0) return causeCode(at.errors[0]);
  }
  return undefined;
}

/** True when an open connection broke: another attempt may succeed. */
function isBrokenConnection(error: unknown): boolean {
  return ["ECONNRESET", "EPIPE", "UND_ERR_SOCKET"].includes(causeCode(error) ?? "");
}

function describeCause(error: unknown): string {
  const code = causeCode(error);
  if (code === "ECONNREFUSED") return "connection refused";
  if (code === "ENOTFOUND" || code === "EAI_AGAIN") return "the host name does not resolve";
  if (code === "ECONNRESET" || code === "UND_ERR_SOCKET") return "the connection broke";
  return code ?? (error instanceof Error ? error.message : String(error));
}
