import type { HostRule } from "../../contracts/network-driver/host-rule.ts";
import type { Queryable } from "../../db/postgres/open-postgres.ts";
import type { findFleetNetwork, FleetNetwork } from "../../db/queries/networks/host-networks.ts";
import { listHostRules } from "../../db/queries/rules/host-rules.ts";
import { hashSecret } from "../../lib/token-hash.ts";

/** The rules of a network, and a hash that differs if they differ. */
interface HashedRules {
  rules: readonly HostRule[];
  rulesHash: string;
}

/** A network with its ports, services and rules. */
export type NetworkWithRules = FleetNetwork & HashedRules;

const noRules: HashedRules = { rules: [], rulesHash: "" };

/**
 * Returns a function that reads a network with its rules. It reads and hashes the rules only if
 * they have changed since its previous call. A network can have 10,000, and the endpoints of its
 * services change more often.
 */
export function createNetworkReader(
  db: Queryable,
  networkId: string,
  find: typeof findFleetNetwork,
): () => Promise<NetworkWithRules | undefined> {
  let cached: { key: string; hashed: HashedRules } | undefined;
  return async () => {
    const network = await find(db, networkId);
    if (!network) return undefined;
    if (network.rulesKey === null) return { ...network, ...noRules };
    if (cached?.key !== network.rulesKey) {
      const [read] = await listHostRules(db, [networkId]);
      if (!read) return undefined;
      // A change since the read of the network has signaled, so the next read is due already.
      const rulesHash = hashSecret(JSON.stringify(read.rules));
      cached = { key: read.rulesKey, hashed: { rules: read.rules, rulesHash } };
    }
    return { ...network, ...cached.hashed };
  };
}
