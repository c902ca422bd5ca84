/**
 * All errors of the API, by stable code. Never rename a code.
 *
 * `status` is the HTTP status of the response (RFC 9457). `retryable` states whether the same
 * request may succeed later; a job retries only those.
 */
export const problemCatalog = {
  "malformed-request": { status: 400, title: "The request is not well-formed", retryable: false },
  unauthenticated: { status: 401, title: "Missing or invalid credentials", retryable: false },
  forbidden: { status: 403, title: "The role does not permit this operation", retryable: false },
  "grant-missing": { status: 403, title: "The tenant lacks a grant", retryable: false },
  "not-found": { status: 404, title: "The resource was not found", retryable: false },
  "host-deleted": { status: 410, title: "The host was deleted", retryable: false },
  "method-not-allowed": {
    status: 405,
    title: "The resource does not support this method",
    retryable: false,
  },
  "already-exists": { status: 409, title: "The name is taken", retryable: false },
  "state-conflict": {
    status: 409,
    title: "The state of the resource does not permit this operation",
    retryable: false,
  },
  "idempotency-conflict": {
    status: 409,
    title: "The Idempotency-Key was used with another request",
    retryable: false,
  },
  "idempotency-in-progress": {
    status: 409,
    title: "A request with this Idempotency-Key is in progress",
    retryable: true,
  },
  "generation-mismatch": {
    status: 412,
    title: "The resource was modified since you read it",
    retryable: false,
  },
  "body-too-large": { status: 413, title: "The request body is too large", retryable: false },
  "wrong-endpoint": {
    status: 501,
    title: "Another endpoint of Berth serves this operation",
    retryable: false,
  },
  "encryption-key-missing": {
    status: 501,
    title: "This installation has no encryption key",
    retryable: false,
  },
  "unsupported-media-type": {
    status: 415,
    title: "The body must be application/json",
    retryable: false,
  },
  "invalid-request": {
    status: 422,
    title: "The request is invalid",
    retryable: false,
  },
  unsupported: {
    status: 422,
    title: "This version does not support the request",
    retryable: false,
  },
  "generation-required": {
    status: 428,
    title: "The header If-Match is required",
    retryable: false,
  },
  "idempotency-key-required": {
    status: 428,
    title: "The header Idempotency-Key is required",
    retryable: false,
  },
  "rate-limited": { status: 429, title: "Too many requests", retryable: true },
  internal: { status: 500, title: "Internal error", retryable: false },
  "dependency-unavailable": {
    status: 503,
    title: "A dependency of Berth is unavailable",
    retryable: true,
  },
  "delivery-too-large": {
    status: 503,
    title: "The delivery is too large",
    retryable: false,
  },
  overloaded: { status: 503, title: "Berth is overloaded", retryable: true },
  "outcome-unknown": {
    status: 503,
    title: "The outcome of the change is unknown",
    retryable: true,
  },
  "request-timeout": { status: 503, title: "The request timed out", retryable: true },
  "quota-exceeded": {
    status: 422,
    title: "The request exceeds the quota of the tenant",
    retryable: false,
  },
  "capacity-insufficient": { status: 507, title: "No host has enough capacity", retryable: true },
} as const satisfies Record<string, { status: number; title: string; retryable: boolean }>;

export type ProblemCode = keyof typeof problemCatalog;
