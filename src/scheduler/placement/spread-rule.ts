import { type Bitmap, lowestBit } from "./bitmap.ts";
import type { HostTable } from "./host-table.ts";
import type { RejectReason } from "./model.ts";

/** One spread constraint of one service during one plan. */
export interface SpreadRule {
  readonly reason: RejectReason;
  /** Whether one more set on this host keeps the skew. */
  admits(rank: number): boolean;
  /** On how many hosts one more set would break it. */
  countAgainst(): number;
  notePlaced(rank: number): void;
}

/** Where hosts of a rank are, by number. */
export interface Domains {
  count: number;
  of: (rank: number) => number;
  /** Hosts in a domain. */
  sizeOf: (domain: number) => number;
}

export function domainsBy(by: "zone" | "rack" | "host", table: HostTable): Domains {
  if (by === "host") return { count: table.hosts.length, of: (rank) => rank, sizeOf: () => 1 };
  const numbering = by === "zone" ? table.zones : table.racks;
  return {
    count: numbering.count,
    of: (rank) => numbering.of[rank] as number,
    sizeOf: (domain) => numbering.sizes[domain] as number,
  };
}

/** Domains with a host that may take sets of the service at all, full or not: those to spread over. */
export type OpenDomains = readonly number[];

export function findOpenDomains(domains: Domains, allowed: Bitmap): OpenDomains {
  const open = new Set<number>();
  for (const [word, allowedBits] of allowed.entries()) {
    for (let bits = allowedBits; bits !== 0; bits &= bits - 1)
      open.add(domains.of(word * 32 + lowestBit(bits)));
  }
  return [...open];
}

export interface SpreadFacts {
  table: HostTable;
  domains: Domains;
  open: OpenDomains;
  /** Sets of the service by host id. */
  placed: ReadonlyMap<string, number>;
}

/**
 * Sets of the service per domain may differ by at most maxSkew. The lowest count is kept as things are placed, with how many
 * domains have it, and looked for anew only when the last of them has got one more.
 */
export function createSpreadRule(
  rule: { by: "zone" | "rack" | "host"; maxSkew: number },
  { table, domains, open, placed }: SpreadFacts,
): SpreadRule {
  // Only domains that have any: a service stands on few of a large fleet's hosts.
  const counts = new Map<number, number>();
  for (const [hostId, sets] of placed) {
    const rank = table.rankOf.get(hostId);
    if (rank === undefined) continue;
    const domain = domains.of(rank);
    counts.set(domain, (counts.get(domain) ?? 0) + sets);
  }
  let lowest = 0;
  let atLowest = 0;

  function findLowest(): void {
    lowest = Number.POSITIVE_INFINITY;
    atLowest = 0;
    for (const domain of open) {
      const count = counts.get(domain) ?? 0;
      if (count < lowest) {
        lowest = count;
        atLowest = 1;
      } else if (count === lowest) atLowest++;
    }
  }

  findLowest();

  return {
    reason: `spread-${rule.by}`,
    admits: (rank) => (counts.get(domains.of(rank)) ?? 0) + 1 - lowest <= rule.maxSkew,
    countAgainst() {
      // A domain without any of the service is at or below the lowest: it always has room for one.
      let hosts = 0;
      for (const [domain, count] of counts)
        if (count + 1 - lowest > rule.maxSkew) hosts += domains.sizeOf(domain);
      return hosts;
    },
    notePlaced(rank) {
      // A host that a set was just put on is allowed, so its domain is open.
      const domain = domains.of(rank);
      const before = counts.get(domain) ?? 0;
      counts.set(domain, before + 1);
      if (before !== lowest) return;
      atLowest--;
      if (atLowest === 0) findLowest();
    },
  };
}
