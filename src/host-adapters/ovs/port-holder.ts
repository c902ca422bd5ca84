import { createSocket } from "node:dgram";
import { createServer } from "node:net";
import { KeyedLock } from "../../lib/async/keyed-lock.ts";

const lockName = "ports";
/** Enough for a host with a thousand sets, each with eight published ports. */
const HELD_MAX = 8_192;

interface Port {
  protocol: "tcp" | "udp";
  hostPort: number;
}

interface BoundPort {
  close(): Promise<void>;
}

/**
 * Listens at published ports, so that no other program of the host can. The packet filter leads
 * their connections to sets. A connection of the host itself is reset.
 */
export interface PortHolder {
  /**
   * Holds these ports, and releases all others. Returns those that another program has. If
   * there are more than its maximum, it holds the first ones.
   */
  hold(ports: readonly Port[]): Promise<ReadonlySet<string>>;
  /** Whether no other program listens at the port, on any address of this machine. */
  isUnused(port: Port): Promise<boolean>;
}

/** Such as `tcp/20001`. */
export function keyOfPort({ protocol, hostPort }: Port): string {
  return `${protocol}/${hostPort}`;
}

/** @param max the number of ports that it holds */
export function createPortHolder(max = HELD_MAX): PortHolder {
  const held = new Map<string, BoundPort>();
  // One call at a time: a check binds its port for a moment, and must not take it from `hold`.
  const lock = new KeyedLock();
  return {
    hold: (ports) => lock.run(lockName, () => holdNow(held, ports.slice(0, max))),
    isUnused: (port) =>
      lock.run(lockName, async () => {
        if (held.has(keyOfPort(port))) return true;
        const bound = await bind(port);
        await bound?.close();
        return bound !== undefined;
      }),
  };
}

async function holdNow(
  held: Map<string, BoundPort>,
  ports: readonly Port[],
): Promise<ReadonlySet<string>> {
  const wanted = new Map(ports.map((port) => [keyOfPort(port), port]));
  for (const [key, bound] of held) {
    if (wanted.has(key)) continue;
    held.delete(key);
    await bound.close();
  }
  const taken = new Set<string>();
  for (const [key, port] of wanted) {
    if (held.has(key)) continue;
    const bound = await bind(port);
    if (bound) held.set(key, bound);
    else taken.add(key);
  }
  return taken;
}

/** Undefined if another program has the port. */
function bind({ protocol, hostPort }: Port): Promise<BoundPort | undefined> {
  return protocol === "tcp" ? bindTcp(hostPort) : bindUdp(hostPort);
}

function bindTcp(port: number): Promise<BoundPort | undefined> {
  return new Promise((resolve, reject) => {
    const server = createServer((socket) => {
      socket.on("error", () => undefined); // the peer may have reset it
      socket.resetAndDestroy();
    });
    server.on("error", (error: NodeJS.ErrnoException) =>
      error.code === "EADDRINUSE" ? resolve(undefined) : reject(error),
    );
    server.listen({ port, host: "0.0.0.0", exclusive: true }, () => {
      server.unref();
      resolve({ close: () => new Promise((done) => server.close(() => done())) });
    });
  });
}

function bindUdp(port: number): Promise<BoundPort | undefined> {
  return new Promise((resolve, reject) => {
    const socket = createSocket("udp4");
    socket.on("error", (error: NodeJS.ErrnoException) => {
      socket.close();
      if (error.code === "EADDRINUSE") resolve(undefined);
      else reject(error);
    });
    socket.bind({ port, address: "0.0.0.0", exclusive: true }, () => {
      socket.unref();
      resolve({ close: () => new Promise((done) => socket.close(() => done())) });
    });
  });
}
