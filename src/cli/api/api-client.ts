import { CliError, problemError, type ProblemDocument } from "../cli-error.ts";
import { exitCodes } from "../exit-codes.ts";
import type { FetchFunction, HttpResponse } from "./http-fetch.ts";

export interface ApiClientOptions {
  /** Base address, such as http://127.0.0.1:7460. */
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
  /** What is answered 503 is not tried again: the API has waited for long already. */
  isTriedOnce?: boolean;
  accept?: string;
  headers?: Record<string, string>;
}

const REQUEST_TIMEOUT_MS = 30_000;
const ATTEMPTS_MAX = 3;
const RETRY_AFTER_MAX_MS = 2_000;

/**
 * Speaks HTTP with the API. Throws CliError, and nothing else, for whatever goes wrong.
 *
 * Reads and POSTs (which carry an Idempotency-Key, so that a repeated one has one effect) are tried at most three times
 * when the connection breaks or the API says 429 or 503; a refused connection is told at once. Answers are not parsed by the
 * strict schemas of the contracts: a newer API may add members.
 */
export class ApiClient {
  readonly options: ApiClientOptions;

  constructor(options: ApiClientOptions) {
    this.options = options;
  }

  /** The JSON body of the answer, or undefined for 204. */
  async request<T>(method: string, path: string, options: RequestOptions = {}): Promise<T> {
    const response = await this.open(method, path, options);
    if (response.status === 204) return undefined as T;
    if (!isJson(response)) throw this.#notBerth(response);
    return (await this.#guard(response.json(), options)) as T;
  }

  /** As request, but undefined when there is no such thing. */
  async find<T>(path: string): Promise<T | undefined> {
    try {
      return await this.request<T>("GET", path);
    } catch (error) {
      if (error instanceof CliError && error.exitCode === exitCodes.notFound) return undefined;
      throw error;
    }
  }

  /** A successful response whose body is still to be read: streams. Pass `timeoutMs: 0` for no time limit on the headers. */
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
    const type = response.headers.get("content-type") ?? "nothing";
    return new CliError(
      `${this.options.apiUrl} answered with status ${response.status} and ${type}, which is not Berth's API.`,
      {
        exitCode: exitCodes.unavailable,
        hints: ["Check BERTH_API_URL or --api-url; a proxy in between may have answered."],
      },
    );
  }

  #connectionError(error: unknown, options: RequestOptions): CliError {
    if (this.options.signal.aborted || options.signal?.aborted)
      return new CliError("interrupted", { exitCode: exitCodes.interrupted, cause: error });
    const { apiUrl } = this.options;
    if (error instanceof Error && error.name === "TimeoutError") {
      return new CliError(`${apiUrl} did not answer within the time limit.`, {
        exitCode: exitCodes.unavailable,
        cause: error,
      });
    }
    return new CliError(`Cannot reach the API at ${apiUrl}: ${describeCause(error)}.`, {
      exitCode: exitCodes.unavailable,
      hints: [
        "`berth up` runs Berth on this machine.",
        "BERTH_API_URL, --api-url or a context of ~/.config/berth/config.json names another address.",
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

/** Worth another try: the connection was there and broke. */
function isBrokenConnection(error: unknown): boolean {
  return ["ECONNRESET", "EPIPE", "UND_ERR_SOCKET"].includes(causeCode(error) ?? "");
}

function describeCause(error: unknown): string {
  const code = causeCode(error);
  if (code === "ECONNREFUSED") return "nothing listens there";
  if (code === "ENOTFOUND" || code === "EAI_AGAIN") return "the name does not resolve";
  if (code === "ECONNRESET" || code === "UND_ERR_SOCKET") return "the connection broke";
  return code ?? (error instanceof Error ? error.message : String(error));
}
