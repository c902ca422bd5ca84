/**
 * Every error that Berth answers with, by its stable code. The code is API: never rename one.
 *
 * `status` is what routes answer with (RFC 9457); `retryable` says whether the same request may succeed later,
 * and is what decides between retry and give-up at the jobs boundary.
 */
export const problemCatalogue = {
  "malformed-request": { status: 400, title: "The request is not well-formed", retryable: false },
  unauthenticated: { status: 401, title: "No valid credential was given", retryable: false },
  forbidden: { status: 403, title: "The credential does not allow this", retryable: false },
  "grant-missing": { status: 403, title: "The tenant is not granted this", retryable: false },
  "not-found": { status: 404, title: "There is no such thing", retryable: false },
  "method-not-allowed": { status: 405, title: "The method is not allowed here", retryable: false },
  "already-exists": { status: 409, title: "The name is taken", retryable: false },
  "state-conflict": {
    status: 409,
    title: "The present state does not allow this",
    retryable: false,
  },
  "idempotency-conflict": {
    status: 409,
    title: "The Idempotency-Key was used with another request",
    retryable: false,
  },
  "idempotency-in-progress": {
    status: 409,
    title: "A request with this Idempotency-Key is under way",
    retryable: true,
  },
  "generation-mismatch": {
    status: 412,
    title: "The thing has changed since you read it",
    retryable: false,
  },
  "body-too-large": { status: 413, title: "The request body is too large", retryable: false },
  "unsupported-media-type": {
    status: 415,
    title: "The body must be application/json",
    retryable: false,
  },
  "invalid-request": {
    status: 422,
    title: "The request is understood but not valid",
    retryable: false,
  },
  unsupported: { status: 422, title: "This is not supported yet", retryable: false },
  "generation-required": {
    status: 428,
    title: "If-Match with the generation is required",
    retryable: false,
  },
  "idempotency-key-required": {
    status: 428,
    title: "An Idempotency-Key is required",
    retryable: false,
  },
  "rate-limited": { status: 429, title: "Too many requests", retryable: true },
  internal: { status: 500, title: "Something went wrong on our side", retryable: false },
  "dependency-unavailable": {
    status: 503,
    title: "Something Berth depends on is unavailable",
    retryable: true,
  },
  overloaded: { status: 503, title: "Berth has too much work", retryable: true },
  "outcome-unknown": {
    status: 503,
    title: "The change may have been stored",
    retryable: true,
  },
  "request-timeout": { status: 503, title: "The request took too long", retryable: true },
  "quota-exceeded": {
    status: 422,
    title: "The tenant's quota does not allow this",
    retryable: false,
  },
  "capacity-insufficient": { status: 507, title: "No host has room", retryable: true },
} as const satisfies Record<string, { status: number; title: string; retryable: boolean }>;

export type ProblemCode = keyof typeof problemCatalogue;
