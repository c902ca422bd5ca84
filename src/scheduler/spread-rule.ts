import { type Bitmap, hasBit } from "./bitmap.ts";
import type { HostTable } from "./host-table.ts";
import type { RejectReason } from "./model.ts";

/** One spread constraint of one service during one plan. */
export interface SpreadRule {
  readonly reason: RejectReason;
  /** Whether one more set on this host keeps the skew. */
  admits(rank: number): boolean;
  notePlaced(rank: number): void;
}

export interface SpreadFacts {
  table: HostTable;
  /** Hosts that may take sets of the service at all, full or not: their domains are those to spread over. */
  eligible: Bitmap;
  /** Sets of the service by host id. */
  placed: ReadonlyMap<string, number>;
}

/**
 * Sets of the service per domain may differ by at most maxSkew. The lowest count is kept as things are placed, with how many
 * domains have it, and looked for anew only when the last of them has got one more.
 */
export function createSpreadRule(
  rule: { by: "zone" | "rack" | "host"; maxSkew: number },
  facts: SpreadFacts,
): SpreadRule {
  const { table, eligible } = facts;
  const domains = domainsBy(rule.by, table);
  const counts = new Int32Array(domains.count);
  const isOpen = new Uint8Array(domains.count);
  for (let rank = 0; rank < table.hosts.length; rank++) {
    if (hasBit(eligible, rank)) isOpen[domains.of(rank)] = 1;
  }
  for (const [hostId, sets] of facts.placed) {
    const rank = table.rankOf.get(hostId);
    if (rank === undefined) continue;
    const domain = domains.of(rank);
    counts[domain] = (counts[domain] as number) + sets;
  }
  let lowest = 0;
  let atLowest = 0;

  function findLowest(): void {
    lowest = Number.POSITIVE_INFINITY;
    atLowest = 0;
    for (let domain = 0; domain < counts.length; domain++) {
      if (isOpen[domain] === 0) continue;
      const count = counts[domain] as number;
      if (count < lowest) {
        lowest = count;
        atLowest = 1;
      } else if (count === lowest) atLowest++;
    }
  }
  findLowest();

  return {
    reason: `spread-${rule.by}`,
    admits: (rank) => (counts[domains.of(rank)] as number) + 1 - lowest <= rule.maxSkew,
    notePlaced(rank) {
      const domain = domains.of(rank);
      const before = counts[domain] as number;
      counts[domain] = before + 1;
      if (before !== lowest || isOpen[domain] === 0) return;
      atLowest--;
      if (atLowest === 0) findLowest();
    },
  };
}

function domainsBy(
  by: "zone" | "rack" | "host",
  table: HostTable,
): { count: number; of: (rank: number) => number } {
  if (by === "host") return { count: table.hosts.length, of: (rank) => rank };
  const numbering = by === "zone" ? table.zones : table.racks;
  return { count: numbering.count, of: (rank) => numbering.of[rank] as number };
}
