import type { Server } from "node:http";

/** After this, requests in flight are aborted. */
const DRAIN_MS = 3_000;

/** Accepts no new connections, calls `endWaits`, and gives requests in flight a short time. */
export async function closeServer(server: Server, endWaits: () => void): Promise<void> {
  const closed = new Promise<void>((resolve) => server.close(() => resolve()));
  endWaits();
  server.closeIdleConnections();
  const timer = setTimeout(() => server.closeAllConnections(), DRAIN_MS);
  // Connections with a response in flight become idle afterwards, so close idle ones repeatedly.
  const sweeping = setInterval(() => server.closeIdleConnections(), 50);
  await closed;
  clearTimeout(timer);
  clearInterval(sweeping);
}
