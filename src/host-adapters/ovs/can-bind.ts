import { createSocket } from "node:dgram";
import { createServer } from "node:net";

/** Whether a program could listen at the port on all addresses of this machine. */
export function canBind(protocol: "tcp" | "udp", port: number): Promise<boolean> {
  return protocol === "tcp" ? canBindTcp(port) : canBindUdp(port);
}

function canBindTcp(port: number): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.on("error", (error: NodeJS.ErrnoException) =>
      error.code === "EADDRINUSE" ? resolve(false) : reject(error),
    );
    server.listen({ port, host: "0.0.0.0", exclusive: true }, () =>
      server.close(() => resolve(true)),
    );
  });
}

function canBindUdp(port: number): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const socket = createSocket("udp4");
    socket.on("error", (error: NodeJS.ErrnoException) => {
      socket.close();
      if (error.code === "EADDRINUSE") resolve(false);
      else reject(error);
    });
    socket.bind({ port, address: "0.0.0.0", exclusive: true }, () =>
      socket.close(() => resolve(true)),
    );
  });
}
