/**
 * The part of the package `ws` that Berth uses, because the package has no types of its own. See
 * https://github.com/websockets/ws/blob/8.18.0/doc/ws.md.
 */
declare module "ws" {
  import type { EventEmitter } from "node:events";
  import type { ClientRequest, IncomingMessage } from "node:http";
  import type { Duplex } from "node:stream";

  export interface ClientOptions {
    headers?: Record<string, string>;
    perMessageDeflate?: boolean;
    /** Bytes of a message. A longer one ends the connection. */
    maxPayload?: number;
    handshakeTimeout?: number;
    ca?: string;
  }

  export class WebSocket extends EventEmitter {
    constructor(url: string, options: ClientOptions);
    readonly bufferedAmount: number;
    send(message: Uint8Array, sent?: (error?: Error) => void): void;
    ping(): void;
    pong(data: Uint8Array, mask: boolean, sent: () => void): void;
    pause(): void;
    resume(): void;
    close(code?: number, reason?: string): void;
    terminate(): void;
    once(event: "open", listener: () => void): this;
    once(event: "error", listener: (error: Error) => void): this;
    once(
      event: "unexpected-response",
      listener: (request: ClientRequest, response: IncomingMessage) => void,
    ): this;
  }

  export interface ServerOptions {
    noServer: true;
    perMessageDeflate?: boolean;
    maxPayload?: number;
    /** Answers each ping, without a bound on answers that the peer does not read. */
    autoPong?: boolean;
  }

  export class WebSocketServer {
    constructor(options: ServerOptions);
    readonly clients: Set<WebSocket>;
    handleUpgrade(
      incoming: IncomingMessage,
      socket: Duplex,
      head: Uint8Array,
      onOpen: (socket: WebSocket) => void,
    ): void;
  }
}
