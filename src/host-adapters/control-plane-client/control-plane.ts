import { randomBytes } from "node:crypto";
import { Readable } from "node:stream";
import { type Dispatcher, request } from "undici";
import { z } from "zod";
import {
  CAPABILITIES_HEADER,
  UNKNOWN_CAPABILITIES,
} from "../../contracts/agent-protocol/agent-capabilities.ts";
import {
  AGENT_IDENTITY_HEADER,
  type AgentIdentity,
  encodeAgentIdentity,
} from "../../contracts/agent-protocol/agent-identity.ts";
import {
  type Enroll,
  type Enrolled,
  nextCredentialTakenSchema,
  enrolledSchema,
  type TakeNextCredential,
} from "../../contracts/agent-protocol/enroll.ts";
import {
  hostNetworksSchema,
  NETWORK_VERSIONS_SENT_MAX,
} from "../../contracts/agent-protocol/host-networks.ts";
import { lenientStart } from "../../contracts/agent-protocol/lenient-array.ts";
import { logStreamRequestSchema } from "../../contracts/agent-protocol/log-stream-request.ts";
import {
  AGENT_PROTOCOL_VERSION,
  PREVIOUS_HOSTS_MAX,
  PURGES_PER_SYNC_MAX,
  SETS_PER_HOST_MAX,
} from "../../contracts/agent-protocol/protocol.ts";
import {
  PREFETCHES_PER_SYNC_MAX,
  prefetchSchema,
} from "../../contracts/agent-protocol/prefetch.ts";
import { readDesiredSets } from "../../contracts/agent-protocol/read-desired-sets.ts";
import {
  CREDENTIALS_PER_SYNC_MAX,
  registryCredentialSchema,
} from "../../contracts/agent-protocol/registry-credential.ts";
import {
  SESSIONS_PER_HOST_MAX,
  sessionRequestSchema,
} from "../../contracts/agent-protocol/session-request.ts";
import { idSchema } from "../../contracts/common/primitives.ts";
import { receivedNetworkSchema } from "../../contracts/network-driver/network-state.ts";
import type { ProblemCode } from "../../contracts/common/problems.ts";
import { syncResultSchema } from "../../contracts/agent-protocol/sync.ts";
import {
  NONCE_HEADER,
  PROOF_HEADER,
  proveRefusal,
  refusalStatuses,
} from "../../contracts/agent-protocol/refusal-proof.ts";
import {
  type ControlPlane,
  ControlPlaneError,
  NotAdmittedError,
  RefusedError,
} from "../../agent/ports/control-plane.ts";
import type { HostNetworksPort } from "../../agent/ports/host-networks-port.ts";
import { runAbortable } from "../../lib/async/abort.ts";
import { truncate } from "../../lib/text/truncate.ts";
import type { HostCredentials, SendCredential } from "./host-credentials.ts";

/** Time for an answer beyond the wait that a call requests. */
const callTimeoutMs = 15_000;
/**
 * Bound of an answer. The longest one lists 1,000 sets and as many departing ones, of 30 KiB each.
 */
const answerBytesMax = 64 * 2 ** 20;
const STREAMS_PER_SYNC_MAX = 10_000;
/**
 * A newer API may send more fields, and a fleet upgrades its agents after the API. An agent ignores
 * unknown fields of an answer, but not of a set: see readDesiredSets. It ignores requests for logs,
 * images and sessions that it cannot read. It also ignores the end of a list that is too long: a
 * later answer names it again.
 */
const syncAnswerSchema = syncResultSchema.strip().extend({
  sets: z.array(z.unknown()),
  setsToRemove: lenientStart(idSchema("set"), SETS_PER_HOST_MAX).optional(),
  streams: lenientStart(logStreamRequestSchema.strip(), STREAMS_PER_SYNC_MAX),
  reportAgain: lenientStart(idSchema("set"), SETS_PER_HOST_MAX).default([]),
  purgeVolumes: lenientStart(idSchema("vol"), PURGES_PER_SYNC_MAX).default([]),
  previousHosts: lenientStart(idSchema("host"), PREVIOUS_HOSTS_MAX).optional(),
  registryCredentials: lenientStart(
    registryCredentialSchema.strip(),
    CREDENTIALS_PER_SYNC_MAX,
  ).optional(),
  prefetch: lenientStart(prefetchSchema.strip(), PREFETCHES_PER_SYNC_MAX).optional(),
  sessions: lenientStart(sessionRequestSchema.strip(), SESSIONS_PER_HOST_MAX).optional(),
  /** Each value but `accepted` is a refusal, also one of a newer API. */
  admission: z.string().optional(),
});
const networksAnswerSchema = hostNetworksSchema.strip().extend({
  networks: z.array(receivedNetworkSchema).nullable(),
  changes: z.array(z.unknown()).optional(),
});
const enrolledAnswerSchema = enrolledSchema.strip();
const takenAnswerSchema = nextCredentialTakenSchema.strip();
const unauthenticated: ProblemCode = "unauthenticated";
const problemSchema = z
  .object({ title: z.string(), detail: z.string(), code: z.string() })
  .partial();
const nonceBytes = 16;

export interface ControlPlaneOptions {
  apiUrl: string;
  /** All clients of a host share them. */
  credentials: HostCredentials;
  /** Without it, the API cannot detect a second agent of the host. */
  identity?: AgentIdentity | undefined;
  /** The features of the agent: see readDesiredSets. The default is those of this build. */
  features?: readonly string[] | undefined;
  /** Each long poll occupies a connection. The dispatcher must allow one for each agent. */
  dispatcher: Dispatcher;
}

/** Calls the API over HTTP. Several agents may share the dispatcher and its connections. */
export function createControlPlane(options: ControlPlaneOptions): ControlPlane {
  const { credentials, identity } = options;
  return {
    async sync(
      body,
      signal,
      { isEnding = false, capabilitiesVersion = UNKNOWN_CAPABILITIES } = {},
    ) {
      const { answer, bearer } = await postAsHost(options, "/agent/v1/sync", body, {
        timeoutMs: body.waitMs + callTimeoutMs,
        signal,
        headers: {
          [CAPABILITIES_HEADER]: capabilitiesVersion,
          ...(identity && { [AGENT_IDENTITY_HEADER]: encodeAgentIdentity(identity, isEnding) }),
        },
      });
      const { sets, admission, ...result } = parseAnswer(syncAnswerSchema, answer);
      if (admission !== undefined && admission !== "accepted")
        throw new NotAdmittedError(admission);
      if (result.rotateCredential) credentials.startRotation(bearer, sendCredentialTo(options));
      const read = { ...result, ...readDesiredSets(sets, options.features) };
      return admission === undefined ? read : { ...read, admission };
    },
    async uploadStream(streamId, { chunks, error }, signal) {
      const query = error === undefined ? "" : `?error=${encodeURIComponent(truncate(error, 500))}`;
      const target = { ...options, bearer: credentials.current };
      await upload(target, `/agent/v1/streams/${streamId}${query}`, chunks, signal);
    },
  };
}

/** HostNetworksPort over HTTP. */
export function createHostNetworks(
  options: Omit<ControlPlaneOptions, "identity">,
): HostNetworksPort {
  return {
    async read({ version, networkVersions, waitMs, knowsGateways }, signal) {
      const query = new URLSearchParams({ waitMs: String(waitMs) });
      if (knowsGateways) query.set("knowsGateways", "true");
      if (version !== undefined) query.set("version", version);
      if (networkVersions)
        query.set("networkVersions", networkVersions.slice(0, NETWORK_VERSIONS_SENT_MAX).join());
      const path = `/agent/v1/network-state?${query.toString()}`;
      const timeoutMs = waitMs + callTimeoutMs;
      const sent = { method: "GET" as const, path };
      const { answer } = await callAsHost(options, sent, { timeoutMs, signal });
      return parseAnswer(networksAnswerSchema, answer);
    },
  };
}

/**
 * Exchanges a single-use enroll token for this host's id. The same credential may repeat the call.
 * Rejects like `sync`.
 */
export async function enrollHost(
  options: { apiUrl: string; enrollToken: string; dispatcher: Dispatcher },
  body: Enroll,
  signal: AbortSignal,
): Promise<Enrolled> {
  const target = { ...options, bearer: options.enrollToken };
  const answer = await post(target, "/agent/v1/enroll", body, { timeoutMs: callTimeoutMs, signal });
  return parseAnswer(enrolledAnswerSchema, answer);
}

/** Returns a function that sends a next credential with the bearer that the caller names. */
function sendCredentialTo({ apiUrl, dispatcher, identity }: ControlPlaneOptions): SendCredential {
  return async (credential, bearer, signal) => {
    const body: TakeNextCredential = { protocol: AGENT_PROTOCOL_VERSION, credential };
    const answer = await post({ apiUrl, dispatcher, bearer }, "/agent/v1/rotate-credential", body, {
      timeoutMs: callTimeoutMs,
      signal,
      headers: identity && { [AGENT_IDENTITY_HEADER]: encodeAgentIdentity(identity, false) },
    });
    parseAnswer(takenAnswerSchema, answer);
  };
}

async function postAsHost(
  target: ControlPlaneOptions,
  path: string,
  body: unknown,
  options: CallOptions,
): Promise<{ answer: unknown; bearer: string }> {
  return callAsHost(target, toPost(path, body), withJson(options));
}

/**
 * Calls the API with the current credential of the host. If Berth itself refuses that one, the call
 * is repeated with each other credential of the host, until Berth accepts one.
 */
async function callAsHost(
  target: Omit<ControlPlaneOptions, "identity">,
  sent: Sent,
  options: CallOptions,
): Promise<{ answer: unknown; bearer: string }> {
  const { credentials } = target;
  const bearer = credentials.current;
  try {
    return { answer: await call({ ...target, bearer }, sent, options), bearer };
  } catch (error) {
    if (!isUnknownCredential(error)) throw error;
    for (const fallback of credentials.listFallbacks(bearer)) {
      try {
        const answer = await call({ ...target, bearer: fallback }, sent, options);
        await credentials.confirmFallback(fallback, bearer);
        return { answer, bearer: fallback };
      } catch (next) {
        if (!isUnknownCredential(next)) throw next;
      }
    }
    throw error;
  }
}

/** Whether Berth itself, and no proxy, does not know the credential of the request. */
function isUnknownCredential(error: unknown): boolean {
  return error instanceof RefusedError && error.provenCode === unauthenticated;
}

interface Target {
  apiUrl: string;
  bearer: string;
  dispatcher: Dispatcher;
}

interface CallOptions {
  timeoutMs: number;
  signal: AbortSignal;
  headers?: Record<string, string> | undefined;
}

interface Sent {
  method: "GET" | "POST";
  path: string;
  body?: string;
}

async function post(
  target: Target,
  path: string,
  body: unknown,
  options: CallOptions,
): Promise<unknown> {
  return call(target, toPost(path, body), withJson(options));
}

function toPost(path: string, body: unknown): Sent {
  return { method: "POST", path, body: JSON.stringify(body) };
}

function withJson(options: CallOptions): CallOptions {
  return { ...options, headers: { "content-type": "application/json", ...options.headers } };
}

async function call(
  { apiUrl, bearer, dispatcher }: Target,
  { method, path, body }: Sent,
  { timeoutMs, signal, headers }: CallOptions,
): Promise<unknown> {
  const nonce = randomBytes(nonceBytes).toString("base64url");
  const onLate = (): never => {
    throw new ControlPlaneError(`the API did not answer within ${timeoutMs} ms`, {});
  };
  return runAbortable({ signal, deadline: { timeoutMs, onLate } }, async (callSignal) => {
    try {
      const response = await request(apiUrl + path, {
        dispatcher,
        method,
        headers: { authorization: `Bearer ${bearer}`, [NONCE_HEADER]: nonce, ...headers },
        ...(body === undefined ? {} : { body }),
        headersTimeout: timeoutMs,
        bodyTimeout: callTimeoutMs,
        signal: callSignal,
      });
      const text = await readText(response.body);
      if (response.statusCode >= 300) throw toFailure({ ...response, text }, { bearer, nonce });
      return JSON.parse(text) as unknown;
    } catch (error) {
      if (error instanceof ControlPlaneError) throw error;
      const detail = error instanceof Error ? error.message : String(error);
      throw new ControlPlaneError(`the API cannot be reached: ${detail}`, { cause: error });
    }
  });
}

async function readText(body: AsyncIterable<unknown>): Promise<string> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of body) {
    const part = chunk as Uint8Array;
    bytes += part.length;
    if (bytes > answerBytesMax) throw new ControlPlaneError("the API's answer is too long", {});
    chunks.push(part);
  }
  return Buffer.concat(chunks).toString();
}

function parseAnswer<S extends z.ZodType>(schema: S, answer: unknown): z.output<S> {
  const parsed = schema.safeParse(answer);
  if (parsed.success) return parsed.data;
  const detail = z.prettifyError(parsed.error).slice(0, 1_000);
  throw new ControlPlaneError(`the API's answer violates the protocol:\n${detail}`, {});
}

interface FailedAnswer {
  statusCode: number;
  headers: Record<string, unknown>;
  text: string;
}

/** @param asked the request that the answer must prove to know; undefined if it has no nonce */
function toFailure(
  { statusCode: status, headers, text }: FailedAnswer,
  asked?: { bearer: string; nonce: string },
): ControlPlaneError {
  const { title, detail, code } = parseProblem(text);
  const message = `the API answered ${status}: ${detail ?? title ?? text.slice(0, 200)}`;
  if (refusalStatuses.has(status)) {
    const proof =
      asked && code !== undefined
        ? proveRefusal(asked.bearer, { status, code, nonce: asked.nonce })
        : undefined;
    const isProven = proof !== undefined && headers[PROOF_HEADER] === proof;
    return new RefusedError(message, { status, provenCode: isProven ? code : undefined });
  }
  const seconds = Number(headers["retry-after"]);
  return new ControlPlaneError(message, {
    status,
    retryAfterMs: Number.isFinite(seconds) && seconds >= 0 ? seconds * 1_000 : undefined,
  });
}

function parseProblem(text: string): z.output<typeof problemSchema> {
  try {
    return problemSchema.safeParse(JSON.parse(text)).data ?? {};
  } catch {
    return {};
  }
}

/**
 * Sends chunks with the connection's backpressure. An answer before the last chunk means that the
 * reader has disconnected.
 */
async function upload(
  { apiUrl, bearer, dispatcher }: Target,
  path: string,
  chunks: AsyncIterable<Uint8Array>,
  signal: AbortSignal,
): Promise<void> {
  const body = Readable.from(chunks, { objectMode: false, highWaterMark: 64 * 1024 });
  try {
    const response = await request(apiUrl + path, {
      dispatcher,
      method: "POST",
      headers: { authorization: `Bearer ${bearer}`, "content-type": "application/octet-stream" },
      body,
      headersTimeout: 0,
      bodyTimeout: callTimeoutMs,
      signal,
    });
    const text = await readText(response.body);
    if (response.statusCode === 404) return;
    if (response.statusCode >= 300) throw toFailure({ ...response, text });
  } finally {
    body.destroy();
  }
}
