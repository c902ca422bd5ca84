import { createRequire, Module } from "node:module";
import type Dockerode from "dockerode";

type DockerodeClass = typeof Dockerode;

const require = createRequire(import.meta.url);
let loaded: DockerodeClass | undefined;

/** Opens a client of the Docker daemon at this socket. It connects at its first call. */
export function openDocker(socketPath: string): Dockerode {
  loaded ??= loadDockerode();
  return new loaded({ socketPath });
}

/**
 * Loads dockerode without its clients of SSH and gRPC. They would take 13 MB of the agent's
 * memory. Only a daemon on another machine needs the first, and only BuildKit the second.
 *
 * Until dockerode is loaded, empty modules take their place in `require.cache`, where Node permits
 * replacements. A later import by another module gets the real ones.
 */
function loadDockerode(): DockerodeClass {
  const dockerode = require.resolve("dockerode");
  const fromDockerode = createRequire(dockerode);
  const fromModem = createRequire(fromDockerode.resolve("docker-modem"));
  const unused = [
    fromModem.resolve("ssh2"),
    fromDockerode.resolve("@grpc/grpc-js"),
    fromDockerode.resolve("@grpc/proto-loader"),
  ].filter((file) => require.cache[file] === undefined);
  for (const file of unused) require.cache[file] = createEmptyModule(file);
  try {
    return require(dockerode) as DockerodeClass;
  } finally {
    for (const file of unused) delete require.cache[file];
  }
}

function createEmptyModule(file: string): NodeJS.Module {
  const empty = new Module(file);
  empty.filename = file;
  empty.loaded = true;
  return empty;
}
