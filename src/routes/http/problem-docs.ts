import { problemCatalogue, type ProblemCode } from "../../contracts/common/problems.ts";

/** The meaning and the remedy of each problem, for /problems/{code} and docs/problems.md. */
export const problemDocs: Record<ProblemCode, string> = {
  "malformed-request":
    "The body is not JSON, is not UTF-8, or is incomplete. Correct the body and repeat the request.",
  unauthenticated:
    "The request has no token, or its token is unknown, revoked or expired. Send a valid token as `Authorization: Bearer …`.",
  forbidden:
    "The token is valid, but its role does not permit the operation. Use a token with a role that the operation lists.",
  "not-found":
    "The resource does not exist, or it belongs to another tenant. Both cases have the same answer. Check the name or the id, and the header Berth-Tenant.",
  "method-not-allowed":
    "The path exists, but does not support the method. The header Allow lists the supported methods.",
  "already-exists":
    "Another resource has this name. Choose another name, or change the existing resource.",
  "state-conflict":
    "The detail names the state that prevents the operation. Read the resource again before you repeat the request.",
  "idempotency-conflict":
    "An earlier request with this Idempotency-Key had another method, path or body. Use a new key for each new request.",
  "idempotency-in-progress":
    "Berth still processes the first request with this key. Repeat the request after a moment to receive the answer of the first.",
  "generation-mismatch":
    "Another request changed the resource after you read it. Read it again, check your change, and send the new ETag as If-Match.",
  "body-too-large":
    "The body is larger than the limit of the operation, which the detail names. Send a smaller body.",
  "unsupported-media-type": "Send the body as JSON, with `Content-Type: application/json`.",
  "invalid-request":
    "The request is well-formed, but a value is invalid. `errors` lists each value, with a pointer into the body or the name of a parameter.",
  unsupported:
    "The request contains a part that this version of Berth does not support. The detail names the part. Omit it.",
  "generation-required":
    "The request must name the generation that it changes. Read the resource, and send its ETag as If-Match.",
  "idempotency-key-required":
    "The operation requires the header Idempotency-Key. Send a string that is new for each new request.",
  "rate-limited":
    "Berth received too many requests in a short time. Repeat the request after the time in Retry-After.",
  internal:
    "Berth has a fault, and the request may or may not have taken effect. Read the state. An operator finds the fault in the logs by the request id.",
  "dependency-unavailable":
    "The database or another dependency does not respond. The request changed nothing. Repeat it after the time in Retry-After.",
  overloaded:
    "All connections that this request may use were busy for too long, or too many requests wait for them. The request changed nothing. Repeat it after the time in Retry-After.",
  "outcome-unknown":
    "Berth lost the connection to the database between the commit and its answer. Repeat the request with the same Idempotency-Key: it takes effect once. Without a key, read the state before you repeat the request.",
  "request-timeout":
    "The request took longer than its limit, and may still take effect. Read the state, or repeat the request with the same Idempotency-Key.",
  "grant-missing":
    "The service names a pool, a toleration, a host label or a priority that no grant of its tenant includes. The detail names each. Request the grant from an admin (`PATCH /v1/tenants/{name}`), or omit it.",
  "quota-exceeded":
    "The request would exceed the tenant's quota. The detail names each dimension with the use, the growth and the bound. Scale a service in, wait until removed sets are absent, purge trashed volumes, or request a larger quota from an admin.",
  "capacity-insufficient":
    "No host has enough free capacity. Add hosts, free capacity, or request smaller sets.",
};

/** The page about one code, as plain text. */
export function describeProblem(code: ProblemCode): string {
  const { status, title, retryable } = problemCatalogue[code];
  const again = retryable
    ? "The same request may succeed later."
    : "The same request will fail again.";
  return `${code} (${status})\n\n${title}.\n\n${problemDocs[code]}\n\n${again}\n`;
}

export function isProblemCode(code: string): code is ProblemCode {
  return Object.hasOwn(problemCatalogue, code);
}

/** The whole text of docs/problems.md. */
export function problemsMarkdown(): string {
  const codes = Object.keys(problemCatalogue).filter(isProblemCode);
  const sections = codes.map((code) => {
    const { status, title, retryable } = problemCatalogue[code];
    return `## ${code}\n\n${status}. ${title}. ${retryable ? "Retryable." : "Not retryable."}\n\n${problemDocs[code]}\n`;
  });
  const head = `# Problems\n\nEvery error is \`application/problem+json\` (RFC 9457) with one of these codes. A code never changes its name.\n\`npm run openapi\` generates this page from \`src/routes/http/problem-docs.ts\`. The API serves the same texts at\n\`/problems/{code}\`.\n`;
  return [head, ...sections].join("\n");
}
