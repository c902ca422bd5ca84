/**
 * Registries of images, named as Docker names them. This file imports nothing: the command line
 * starts faster without zod.
 */
export const DOCKER_HUB = "docker.io";
export const REGISTRY_LENGTH_MAX = 255;
export const REGISTRY_USERNAME_LENGTH_MAX = 255;
/** Some registries issue signed tokens or JSON keys of several KiB. */
export const REGISTRY_PASSWORD_LENGTH_MAX = 16_384;

/** Names of Docker Hub in image references and in `docker login`. */
const dockerHubNames: ReadonlySet<string> = new Set([
  DOCKER_HUB,
  "index.docker.io",
  "registry-1.docker.io",
]);
const label = "[a-z0-9](?:[a-z0-9-]*[a-z0-9])?";
const registryPattern = new RegExp(
  String.raw`^(?:${label}(?:\.${label})*|\[[0-9a-f:]+\])(?::[0-9]{1,5})?$`,
);

/**
 * Reads the name of a registry, such as `registry.example.com:5000`, in lower case. Returns
 * undefined if no image reference can name it. A host without a dot and a port is a part of a
 * repository on Docker Hub.
 */
export function parseRegistry(text: string): string | undefined {
  const name = text.toLowerCase();
  if (name.length > REGISTRY_LENGTH_MAX || !registryPattern.test(name)) return undefined;
  if (!isRegistry(name)) return undefined;
  return dockerHubNames.has(name) ? DOCKER_HUB : name;
}

/** Returns the registry from which Docker pulls an image. */
export function findRegistry(reference: string): string {
  const [first = "", ...path] = reference.split("/");
  if (path.length === 0 || (!isRegistry(first) && first.toLowerCase() === first)) return DOCKER_HUB;
  const name = first.toLowerCase();
  return dockerHubNames.has(name) ? DOCKER_HUB : name;
}

/** Docker's rule for the first part of an image reference. */
function isRegistry(first: string): boolean {
  return /[.:]/.test(first) || first.toLowerCase() === "localhost";
}
