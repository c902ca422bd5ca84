import * as registryCredentials from "../../../src/db/queries/tenancy/registry-credentials.ts";
import type { Samples } from "./volume-samples.ts";

const sealedCredential = {
  id: "reg",
  tenantId: "tnt",
  registry: "ghcr.io",
  username: "puller",
  keyId: "key",
  ciphertext: "text",
};

export const registrySamples: Samples = {
  listRegistries: (q) => [
    registryCredentials.listRegistries(q, null, undefined, 1),
    registryCredentials.listRegistries(q, "tnt", "reg", 1),
  ],
  findRegistryOf: (q) => [registryCredentials.findRegistryOf(q, "tnt", "ghcr.io")],
  lockCredentials: (q) => [registryCredentials.lockCredentials(q, "tnt")],
  countCredentials: (q) => [registryCredentials.countCredentials(q, "tnt")],
  findSealedCredential: (q) => [registryCredentials.findSealedCredential(q, "tnt", "ghcr.io")],
  putCredential: (q) => [registryCredentials.putCredential(q, sealedCredential)],
  deleteCredential: (q) => [registryCredentials.deleteCredential(q, "tnt", "ghcr.io")],
  listCredentialsOfOtherKeys: (q) => [
    registryCredentials.listCredentialsOfOtherKeys(q, "key", "reg", 1),
  ],
  updateCiphertext: (q) => [
    registryCredentials.updateCiphertext(q, sealedCredential, sealedCredential),
  ],
  listHostCredentials: (q) => [registryCredentials.listHostCredentials(q, "host", 1)],
  listHostsOfTenant: (q) => [registryCredentials.listHostsOfTenant(q, "tnt", 1)],
};
