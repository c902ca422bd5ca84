import { once } from "node:events";
import { rm } from "node:fs/promises";
import { createServer } from "node:http";

const implemented = { Implements: ["NetworkDriver", "IpamDriver"] };
const capabilities = { Scope: "local", ConnectivityScope: "local" };

/**
 * Answers Docker in place of a network driver that has been killed, so that Docker can remove the
 * networks of the driver. It permits everything and does nothing.
 */
export async function startStandInPlugin(plugin: string): Promise<{ close(): Promise<void> }> {
  const socket = `/run/docker/plugins/${plugin}.sock`;
  await rm(socket, { force: true });
  const server = createServer((request, response) => {
    request.resume();
    response.setHeader("Content-Type", "application/vnd.docker.plugins.v1.1+json");
    const answer = request.url === "/Plugin.Activate" ? implemented : capabilities;
    response.end(JSON.stringify(answer));
  });
  server.listen(socket);
  await once(server, "listening");
  return {
    close: async () => {
      server.close();
      server.closeAllConnections();
      await rm(socket, { force: true });
    },
  };
}
