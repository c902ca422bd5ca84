import { createConnection, createServer, type Server, type Socket } from "node:net";
import { once } from "node:events";

export interface TcpProxy {
  /** The URL of the target with the address of the proxy. */
  url: string;
  /** Bytes that the clients sent, in order. */
  sent: Buffer[];
  /** Connections that are open now forward nothing more in either direction, and stay open. */
  stall(): void;
  /** Calls `onSent` for each piece that a client sends, before it is forwarded. */
  onSent(listener: (piece: Buffer, link: ProxyLink) => void): void;
  close(): Promise<void>;
}

/** One connection through the proxy. */
export interface ProxyLink {
  /**
   * The client gets no more answers, and its connection is reset once the target has read what
   * was sent.
   */
  dropAnswers(): void;
}

/**
 * Forwards between a client and a server, and fails like a network: without an error, or after the
 * request arrived.
 */
export async function startTcpProxy(targetUrl: string): Promise<TcpProxy> {
  const target = new URL(targetUrl);
  const sent: Buffer[] = [];
  const pairs = new Set<{ client: Socket; upstream: Socket; isStalled: boolean }>();
  let listener: ((piece: Buffer, link: ProxyLink) => void) | undefined;
  const server: Server = createServer((client) => {
    const upstream = createConnection(Number(target.port), target.hostname);
    const pair = { client, upstream, isStalled: false };
    pairs.add(pair);
    let isMute = false;
    const link: ProxyLink = {
      dropAnswers: () => {
        isMute = true;
        setTimeout(() => client.resetAndDestroy(), 300);
      },
    };
    client.on("data", (piece: Buffer) => {
      if (pair.isStalled) return;
      sent.push(piece);
      listener?.(piece, link);
      upstream.write(piece);
    });
    upstream.on("data", (piece) => void (pair.isStalled || isMute || client.write(piece)));
    const end = (): void => {
      pairs.delete(pair);
      client.destroy();
      upstream.destroy();
    };
    for (const socket of [client, upstream]) {
      socket.on("error", () => undefined);
      socket.on("close", () => void (pair.isStalled || end()));
    }
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("the proxy has no port");
  const url = new URL(targetUrl);
  url.hostname = "127.0.0.1";
  url.port = String(address.port);
  return {
    url: url.href,
    sent,
    stall: () => {
      for (const pair of pairs) pair.isStalled = true;
    },
    onSent: (next) => {
      listener = next;
    },
    close: async () => {
      for (const { client, upstream } of pairs) {
        client.destroy();
        upstream.destroy();
      }
      server.close();
      await once(server, "close");
    },
  };
}
