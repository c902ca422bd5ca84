import type { RegistryCredential } from "../../contracts/agent-protocol/registry-credential.ts";
import { findRegistry } from "../../contracts/common/image-registry.ts";
import { Secret } from "../../lib/secret.ts";

/** The user and the password or access token for a pull. */
export interface PullCredential {
  registry: string;
  username: string;
  password: Secret;
}

/**
 * The credentials of the tenants whose sets are on this host. Answers of the control plane replace
 * them, and pulls read them when they start.
 *
 * They are in memory only, so that no disk of a host has them. After a restart without the API, an
 * image that the host lacks waits for the first answer. Sets whose images are on the host start.
 */
export class RegistryCredentials {
  #credentials = new Map<string, PullCredential>();

  /** Replaces all credentials. A list that is undefined, as of an older API, changes nothing. */
  update(list: readonly RegistryCredential[] | undefined): void {
    if (!list) return;
    const next = new Map<string, PullCredential>();
    for (const { tenant, registry, username, password } of list) {
      const key = toKey(tenant, registry);
      const known = this.#credentials.get(key);
      if (password !== null) next.set(key, { registry, username, password: new Secret(password) });
      else if (known) next.set(key, known);
    }
    this.#credentials = next;
  }

  /** The credential of a tenant for the registry of an image. */
  find(tenant: string, image: string): PullCredential | undefined {
    return this.#credentials.get(toKey(tenant, findRegistry(image)));
  }

  /** True if any tenant has a credential for the registry of an image. */
  hasRegistryOf(image: string): boolean {
    const registry = findRegistry(image);
    return [...this.#credentials.values()].some((credential) => credential.registry === registry);
  }
}

function toKey(tenant: string, registry: string): string {
  return `${tenant} ${registry}`;
}
