import { problemCatalog, type ProblemCode } from "../../contracts/common/problems.ts";

interface ProblemDoc {
  meaning: string;
  /** The action of the caller. */
  user: string;
  /** The action of the operator of the installation. Absent: no action helps. */
  operator?: string;
}

/** The meaning and the remedies of each problem, for /problems/{code} and docs/problems.md. */
export const problemDocs: Record<ProblemCode, ProblemDoc> = {
  "malformed-request": {
    meaning: "The body is not JSON, is not UTF-8, or is incomplete.",
    user: "Correct the body and retry the request.",
    operator:
      "Check the proxies before the API: a proxy that truncates bodies causes this problem.",
  },
  unauthenticated: {
    meaning: "The request has no token, or its token is unknown, revoked or expired.",
    user: "Send a valid token as `Authorization: Bearer …`.",
    operator:
      "Create a token with `berth token create`. If all tokens fail, check the database's clock.",
  },
  forbidden: {
    meaning: "The token is valid, but its role does not permit the operation.",
    user: "Use a token with a role that the operation lists.",
    operator:
      "Create a token with the required role. The log line of the request id names the token.",
  },
  "grant-missing": {
    meaning:
      "The service names a pool, a toleration, a host label or a priority that no grant of its tenant includes. The detail names each.",
    user: "Omit it, or request the grant from an admin.",
    operator: "Add the grant with `PATCH /v1/tenants/{name}` if the tenant may use it.",
  },
  "not-found": {
    meaning:
      "The resource does not exist, or it belongs to another tenant. Both cases have the same response.",
    user: "Check the name or the id, and the header Berth-Tenant.",
    operator: "Search `GET /v1/events` for the resource. Its events remain after its deletion.",
  },
  "host-deleted": {
    meaning:
      "An operator deleted the host of this agent. The answer is signed. The agent stops its sets about a minute after it reaches the API again.",
    user: "Nothing: users do not call this operation.",
    operator:
      "To use the machine again, stop the agent, delete `host-agent.json` in `BERTH_AGENT_DATA_DIR`, set a new `BERTH_ENROLL_TOKEN`, and start the agent. Its volumes stay in the trash. The runbook of unhealthy hosts has the details.",
  },
  "method-not-allowed": {
    meaning: "The path exists, but does not support the method.",
    user: "Use a method that the header Allow lists.",
  },
  "wrong-endpoint": {
    meaning:
      "The API on Cloudflare Workers does not serve host agents and dry runs, which need more connections or memory than a Worker has.",
    user: "Send the request to the API on Node.",
    operator: "Set `BERTH_API_URL` of the host agents to the API on Node.",
  },
  "encryption-key-missing": {
    meaning:
      "Berth stores registry credentials only encrypted, and this API process has no key for that. All other operations work.",
    user: "Ask the operator for a key. Until then, use images that need no credential.",
    operator:
      "Set `BERTH_ENCRYPTION_KEYS` of each API process to the output of `openssl rand -base64 32`, and restart the API. Store the key with the backups of the database.",
  },
  "already-exists": {
    meaning:
      "Another resource has this name. A service holds its name until its deletion is complete.",
    user: "Choose another name, or change the existing resource. Wait for a deletion with `berth wait service NAME --for deleted`.",
    operator:
      "If a lost host delays the deletion of a service, delete the host when its machine is off.",
  },
  "state-conflict": {
    meaning: "The detail names the state that prevents the operation.",
    user: "Read the resource again. Retry the request when the state permits it.",
    operator: "Check the events of the resource if its state does not change.",
  },
  "idempotency-conflict": {
    meaning: "An earlier request with this Idempotency-Key had another method, path or body.",
    user: "Use a new key for each new request.",
  },
  "idempotency-in-progress": {
    meaning: "Berth still processes the first request with this key.",
    user: "Retry the request after a moment to receive the response to the first.",
    operator: "If this lasts longer than a minute, search the database for long transactions.",
  },
  "generation-mismatch": {
    meaning: "Another request changed the resource after you read it.",
    user: "Read it again, check your change, and send the new ETag as If-Match.",
    operator: "If this occurs often, search the events for two clients that change one resource.",
  },
  "body-too-large": {
    meaning: "The body is larger than the limit of the operation, which the detail names.",
    user: "Send a smaller body.",
  },
  "unsupported-media-type": {
    meaning: "The body has a content type other than JSON.",
    user: "Send the body as JSON, with `Content-Type: application/json`.",
  },
  "invalid-request": {
    meaning:
      "The request is well-formed, but a value is invalid. `errors` lists each value, with a pointer into the body or the name of a parameter.",
    user: "Correct each value that `errors` lists.",
  },
  unsupported: {
    meaning:
      "This version of Berth, or the agent of a host, does not support a part of the request. Or the operator does not permit a capability.",
    user: "Omit the part that the detail names.",
    operator:
      "Upgrade Berth, or the agents if the detail names them, if a newer version supports the part. Add a capability to `BERTH_CAPABILITIES_ALLOWED` if containers may have it.",
  },
  "generation-required": {
    meaning: "The request must name the generation that it changes.",
    user: "Read the resource, and send its ETag as If-Match.",
  },
  "idempotency-key-required": {
    meaning: "The operation requires the header Idempotency-Key.",
    user: "Send a string that is new for each new request.",
  },
  "rate-limited": {
    meaning:
      "The token or its tenant has too many streams, waits, logs or dry runs open at the same time. The same status means that too many log requests wait for one host.",
    user: "End one of them, or retry the request after the time in Retry-After.",
    operator: "Find the caller in the request log. It probably opens streams without closing them.",
  },
  internal: {
    meaning: "Berth has a fault, and the request may or may not have taken effect.",
    user: "Read the state before you retry the request. Send the request id to the operator.",
    operator: "Search the logs for the request id. Report the error as a bug.",
  },
  "dependency-unavailable": {
    meaning: "The database or another dependency does not respond. The request changed nothing.",
    user: "Retry the request after the time in Retry-After.",
    operator: "Check `/readyz`, Postgres and Redis. The log names the dependency.",
  },
  "delivery-too-large": {
    meaning:
      "The delivery of an alert sender is larger than the limit, which the detail names. The status is 503, because senders drop their alerts after a 413.",
    user: "Configure the sender to group its alerts by more labels, so that each delivery has fewer of them.",
    operator:
      "Find the hook in the request log, and the owner of its service. The dependencies of Berth are not at fault.",
  },
  overloaded: {
    meaning:
      "All connections that this request may use were busy for too long, or too many requests wait for them. The request changed nothing.",
    user: "Retry the request after the time in Retry-After.",
    operator:
      "Check the load of the API and of Postgres. If the load is expected, add API processes.",
  },
  "outcome-unknown": {
    meaning: "Berth lost the connection to the database between the commit and its response.",
    user: "Retry the request with the same Idempotency-Key: it takes effect once. Without a key, read the state before you retry the request.",
    operator: "Check the network between the API and Postgres, and the log of Postgres.",
  },
  "request-timeout": {
    meaning: "The request took longer than its limit, and may still take effect.",
    user: "Read the state, or retry the request with the same Idempotency-Key.",
    operator: "Check the load of the API and the slow queries of Postgres.",
  },
  "quota-exceeded": {
    meaning:
      "The request would exceed the tenant's quota. The detail names each dimension with the usage, the growth and the bound.",
    user: "Scale a service in, wait until removed sets are absent, purge trashed volumes, or request a larger quota from an admin.",
    operator:
      "Raise the tenant's quota with `PATCH /v1/tenants/{name}` if the hosts have capacity.",
  },
  "capacity-insufficient": {
    meaning: "No host has enough free capacity.",
    user: "Request smaller sets, or retry the request later.",
    operator: "Add hosts, or uncordon hosts. `berth plan` shows the missing amount for each host.",
  },
};

/** The page about one code, as plain text. */
export function describeProblem(code: ProblemCode): string {
  const { status, title, retryable } = problemCatalog[code];
  const again = retryable
    ? "The same request may succeed later."
    : "Do not retry the request unchanged. First remove the cause.";
  const doc = problemDocs[code];
  const operator = doc.operator === undefined ? "" : `\n\nOperator: ${doc.operator}`;
  return `${code} (${status})\n\n${title}.\n\n${doc.meaning} ${again}\n\nUser: ${doc.user}${operator}\n`;
}

export function isProblemCode(code: string): code is ProblemCode {
  return Object.hasOwn(problemCatalog, code);
}

/** The whole text of docs/problems.md. */
export function problemsMarkdown(): string {
  const codes = Object.keys(problemCatalog).filter(isProblemCode);
  const sections = codes.map((code) => {
    const { status, title, retryable } = problemCatalog[code];
    const doc = problemDocs[code];
    const operator = doc.operator === undefined ? "" : `\n- Operator: ${doc.operator}`;
    return `## ${code}\n\n${status}. ${title}. ${retryable ? "Retryable." : "Not retryable."}\n\n${doc.meaning}\n\n- User: ${doc.user}${operator}\n`;
  });
  const head = `# Problems\n\nEvery error is \`application/problem+json\` (RFC 9457) with one of these codes. A code never changes its name.\n\`npm run openapi\` generates this page from \`src/routes/http/problem-docs.ts\`. The API serves the same texts at\n\`/problems/{code}\`.\n`;
  return [head, ...sections].join("\n");
}
