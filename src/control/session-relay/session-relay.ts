import { timingSafeEqual } from "node:crypto";
import type { SessionRequest } from "../../contracts/agent-protocol/session-request.ts";
import { AppError, notFound } from "../../contracts/common/app-error.ts";
import { closeCodes, type SessionSocket } from "../../contracts/sessions/session-socket.ts";
import { runAbortable } from "../../lib/async/abort.ts";
import { JoinedSockets } from "./joined-sockets.ts";
import { LiveSessions } from "./live-sessions.ts";
import type { SessionDirectory, SessionOwner } from "./session-directory.ts";

/** The agent polls its orders without a pause, and needs one round trip to connect. */
const AGENT_TIMEOUT_MS = 10_000;
const SECRET_BYTES = 32;

export interface SessionRelayOptions {
  directory: SessionDirectory;
  /** Connects to the owner of a session in another process. */
  dialOwner: (owner: SessionOwner, session: HostSession) => Promise<SessionSocket>;
}

/** A session, and the host whose agent serves it. */
export interface HostSession {
  sessionId: string;
  hostId: string;
}

/** Where the connection of an agent goes. Call one of the two. */
interface FoundOwner {
  connect: (socket: SessionSocket) => void;
  abandon: () => void;
}

interface Waiting extends SessionOwner {
  hostId: string;
  socket: SessionSocket | undefined;
  arrive: (socket: SessionSocket) => void;
}

/**
 * Connects callers with the agents of hosts, across the processes of the API.
 *
 * The process that has the caller owns the session. It stores a request in the directory, and the
 * agent connects to any process of the API. A different one connects to the owner,
 * and passes messages on.
 */
export class SessionRelay {
  readonly live = new LiveSessions();
  readonly #options: SessionRelayOptions;
  readonly #waiting = new Map<string, Waiting>();
  #ownUrl = "";

  constructor(options: SessionRelayOptions) {
    this.#options = options;
  }

  /** Sets the URL of this process for other processes of the API, once it listens. */
  setOwnUrl(url: string): void {
    this.#ownUrl = url;
  }

  takeRequests(hostId: string): Promise<SessionRequest[]> {
    return this.#options.directory.takeRequests(hostId);
  }

  /**
   * Requests a session from the agent of a host, and resolves with the agent's connection, which is
   * paused. Throws dependency-unavailable if no agent connects within 10 s.
   */
  async request(
    hostId: string,
    request: SessionRequest,
    { wake, signal }: { wake: () => Promise<void>; signal: AbortSignal },
  ): Promise<SessionSocket> {
    const { sessionId } = request;
    const waiting: Waiting = {
      hostId,
      url: this.#ownUrl,
      secret: createSecret(),
      socket: undefined,
      arrive: () => undefined,
    };
    const arrived = new Promise<SessionSocket>((resolve) => {
      waiting.arrive = resolve;
    });
    this.#waiting.set(sessionId, waiting);
    try {
      const { url, secret } = waiting;
      await this.#options.directory.announce(hostId, request, { url, secret });
      await wake();
      const deadline = { timeoutMs: AGENT_TIMEOUT_MS, onLate: throwSilentAgent };
      return await runAbortable({ signal, deadline }, () => arrived);
    } catch (error) {
      waiting.socket?.terminate();
      throw error;
    } finally {
      this.#waiting.delete(sessionId);
    }
  }

  /**
   * Finds the owner of a session for the agent of a host, before its connection is accepted.
   * Throws not-found if no caller waits.
   */
  async findOwner(session: HostSession): Promise<FoundOwner> {
    if (this.#waiting.get(session.sessionId)?.hostId === session.hostId)
      return { connect: (socket) => this.#arrive(session, socket), abandon: () => undefined };
    const owner = await this.#options.directory.findOwner(session.sessionId);
    if (!owner || owner.url === this.#ownUrl) throw notFound("session");
    const upstream = await this.#options.dialOwner(owner, session).catch((cause: unknown) => {
      throw new AppError("dependency-unavailable", {
        detail: "The process of the API that has the session does not respond.",
        cause,
      });
    });
    return {
      connect: (socket) => {
        const onEnd = (): void => this.live.remove(joined);
        const joined = new JoinedSockets(socket, upstream, { onEnd });
        if (!joined.isEnded) this.live.add(joined);
      },
      abandon: () => upstream.terminate(),
    };
  }

  /**
   * Finds the session that another process of the API passes on. Undefined if no caller waits for
   * it, or the secret is wrong.
   */
  findPassedOn(
    session: HostSession,
    secret: string,
  ): ((socket: SessionSocket) => void) | undefined {
    const waiting = this.#waiting.get(session.sessionId);
    if (!waiting || !isEqual(waiting.secret, secret)) return undefined;
    return (socket) => this.#arrive(session, socket);
  }

  /** A host gets only its own sessions, and each session has one connection. */
  #arrive({ sessionId, hostId }: HostSession, socket: SessionSocket): void {
    const waiting = this.#waiting.get(sessionId);
    if (!waiting || waiting.hostId !== hostId || waiting.socket) {
      socket.close(closeCodes.failed, "no such session");
      socket.resume();
      return;
    }
    waiting.socket = socket;
    waiting.arrive(socket);
  }
}

function createSecret(): string {
  return Buffer.from(crypto.getRandomValues(new Uint8Array(SECRET_BYTES))).toString("base64url");
}

function isEqual(one: string, other: string): boolean {
  const [a, b] = [Buffer.from(one), Buffer.from(other)];
  return a.length === b.length && timingSafeEqual(a, b);
}

function throwSilentAgent(): never {
  throw new AppError("dependency-unavailable", {
    detail: "The host's agent did not connect in time. Try again later.",
    retryAfterMs: 2_000,
  });
}
