import { assert } from "../../lib/assert.ts";
import { type Bitmap, lowestBit } from "./bitmap.ts";
import type { HostTable } from "./host-table.ts";
import type { RejectReason } from "./model.ts";

/** A spread constraint of one service during one plan. */
export interface SpreadRule {
  readonly reason: RejectReason;
  /** True if one more set on this host respects maxSkew. */
  admits(rank: number): boolean;
  /** By how many sets one more set on this host exceeds maxSkew. 0 if it respects maxSkew. */
  getExcess(rank: number): number;
  /** How often the rule has begun to permit more than before. */
  readonly relaxations: number;
  /** Counts the hosts where one more set violates maxSkew. */
  countAgainst(): number;
  notePlaced(rank: number): void;
  /** Stops counting a set on this host. `notePlaced` reverts it. */
  noteReplaced(rank: number): void;
}

/** The domains of the hosts, as numbers. */
export interface Domains {
  count: number;
  getDomain: (rank: number) => number;
  /** The number of hosts in a domain. */
  countHosts: (domain: number) => number;
}

export function domainsBy(by: "zone" | "rack" | "host", table: HostTable): Domains {
  if (by === "host")
    return { count: table.hosts.length, getDomain: (rank) => rank, countHosts: () => 1 };
  const numbering = by === "zone" ? table.zones : table.racks;
  return {
    count: numbering.count,
    getDomain: (rank) => numbering.byRank[rank] as number,
    countHosts: (domain) => numbering.sizes[domain] as number,
  };
}

/** Domains with a host that may take sets of the service, whether or not it is full. */
export interface OpenDomains {
  readonly list: readonly number[];
  has(domain: number): boolean;
}

export function findOpenDomains(domains: Domains, allowed: Bitmap): OpenDomains {
  const open = new Set<number>();
  for (const [word, allowedBits] of allowed.entries()) {
    for (let bits = allowedBits; bits !== 0; bits &= bits - 1)
      open.add(domains.getDomain(word * 32 + lowestBit(bits)));
  }
  return { list: [...open], has: (domain) => open.has(domain) };
}

export interface SpreadFacts {
  table: HostTable;
  domains: Domains;
  open: OpenDomains;
  /** The number of sets of the service on each host, by id. */
  placed: ReadonlyMap<string, number>;
}

/**
 * The numbers of sets in two open domains may differ by at most maxSkew. The rule tracks the lowest
 * count and the number of domains with it. It searches all domains only after the last of these has
 * changed.
 */
export function createSpreadRule(
  rule: { by: "zone" | "rack" | "host"; maxSkew: number },
  { table, domains, open, placed }: SpreadFacts,
): SpreadRule {
  // Only domains with a set, because a service runs on few hosts of a large fleet.
  const counts = new Map<number, number>();
  for (const [hostId, sets] of placed) {
    const rank = table.rankById.get(hostId);
    if (rank === undefined) continue;
    const domain = domains.getDomain(rank);
    counts.set(domain, (counts.get(domain) ?? 0) + sets);
  }
  let lowest = 0;
  let atLowest = 0;
  let relaxations = 0;

  function findLowest(): void {
    lowest = Number.POSITIVE_INFINITY;
    atLowest = 0;
    for (const domain of open.list) {
      const count = counts.get(domain) ?? 0;
      if (count < lowest) {
        lowest = count;
        atLowest = 1;
      } else if (count === lowest) atLowest++;
    }
  }

  findLowest();
  const getSkew = (rank: number) => (counts.get(domains.getDomain(rank)) ?? 0) + 1 - lowest;

  return {
    reason: `spread-${rule.by}`,
    admits: (rank) => getSkew(rank) <= rule.maxSkew,
    getExcess: (rank) => Math.max(0, getSkew(rank) - rule.maxSkew),
    get relaxations() {
      return relaxations;
    },
    countAgainst() {
      // A domain without a set of the service has the lowest count, so it always permits one.
      let hosts = 0;
      for (const [domain, count] of counts)
        if (count + 1 - lowest > rule.maxSkew) hosts += domains.countHosts(domain);
      return hosts;
    },
    notePlaced(rank) {
      const domain = domains.getDomain(rank);
      const before = counts.get(domain) ?? 0;
      counts.set(domain, before + 1);
      if (before !== lowest || !open.has(domain)) return;
      atLowest--;
      if (atLowest > 0) return;
      findLowest();
      relaxations++;
    },
    noteReplaced(rank) {
      const domain = domains.getDomain(rank);
      const after = (counts.get(domain) ?? 0) - 1;
      assert(after >= 0, "a replaced set was counted");
      counts.set(domain, after);
      relaxations++;
      if (after > lowest || !open.has(domain)) return;
      atLowest = after === lowest ? atLowest + 1 : 1;
      lowest = after;
    },
  };
}
