import { assert } from "../../lib/assert.ts";

/** A set that the tree may return. */
export interface TreeSet {
  hostId: string | null;
  /** The set is departing from its host: preferred while the spread permits it. */
  isLeaving: boolean;
  /** The unique position in the order without spread. Departing sets come first. */
  rank: number;
}

/** The sets of one service per domain of one spread rule. The tree updates it. */
export interface SpreadCounts<T> {
  maxSkew: number;
  getDomain: (set: T) => string;
  /** Sets that remain, by domain. */
  setsByDomain: Map<string, number>;
  /** How many domains have each number of sets. */
  domainsBySets: Map<number, number>;
  /** The highest number of sets in any domain. */
  setsMax: number;
}

/** Compared number by number; each number can only decrease as sets are taken. */
type Key = readonly number[];

interface Node<T> {
  /** Sets in the domain that remain, of the tree or not. The root has no domain. */
  domain: string;
  children: Map<string, Node<T>>;
  /** All children with remaining sets, and those with departing sets. */
  byKey: LazyHeap<T>;
  leavingByKey: LazyHeap<T>;
  /** Sets of a leaf by rank, and how many of them are taken. */
  sets: T[];
  taken: number;
  leaving: number;
}

/**
 * Returns sets one after the other, so that those that remain stay spread: the next set is of the
 * largest domain. Inner nodes are the domains of the spread rules, coarse rules first.
 *
 * One set costs O(depth x log n). A heap may hold keys that are too high, because keys only
 * decrease; it corrects the key at its top. A sorted list of all domains would change as a whole
 * with each set that the tree gives out.
 */
export class RemovalTree<T extends TreeSet> {
  readonly #counts: readonly SpreadCounts<T>[];
  readonly #keepsSpread: boolean;
  readonly #root: Node<T>;

  /**
   * With `keepsSpread`, the tree does not prefer a set that leaves its host where this breaks the
   * spread.
   */
  constructor(sets: readonly T[], counts: readonly SpreadCounts<T>[], keepsSpread: boolean) {
    this.#counts = counts;
    this.#keepsSpread = keepsSpread;
    this.#root = this.#newNode("", 0);
    for (const set of sets.toSorted((a, b) => a.rank - b.rank)) this.#add(set);
    this.#fillHeaps(this.#root);
  }

  /** Takes the next set out of the tree. Returns undefined if the tree is empty. */
  takeNext(): T | undefined {
    const path: Node<T>[] = [this.#root];
    let node = this.#root;
    for (let level = 0; level < this.#counts.length; level++) {
      const child = this.#chooseChild(node, level);
      if (!child) return undefined;
      path.push(child);
      node = child;
    }
    const set = node.sets[node.taken];
    if (!set) return undefined;
    node.taken++;
    for (const one of path) one.leaving -= Number(set.isLeaving);
    for (const counts of this.#counts) decrement(counts, counts.getDomain(set));
    return set;
  }

  #chooseChild(node: Node<T>, level: number): Node<T> | undefined {
    const leaving = node.leavingByKey.peek();
    if (leaving && (!this.#keepsSpread || this.#canLoseOne(leaving, level))) return leaving;
    return node.byKey.peek();
  }

  /** Whether maxSkew still holds and no domain is empty after this domain loses a set. */
  #canLoseOne(node: Node<T>, level: number): boolean {
    const { setsByDomain, setsMax, maxSkew } = this.#countsAt(level);
    const after = (setsByDomain.get(node.domain) ?? 0) - 1;
    return setsMax - after <= maxSkew && (after > 0 || setsMax < 2);
  }

  #add(set: T): void {
    let node = this.#root;
    node.leaving += Number(set.isLeaving);
    for (const [level, { getDomain }] of this.#counts.entries()) {
      const domain = getDomain(set);
      let child = node.children.get(domain);
      if (!child) node.children.set(domain, (child = this.#newNode(domain, level + 1)));
      node = child;
      node.leaving += Number(set.isLeaving);
    }
    node.sets.push(set);
  }

  #newNode(domain: string, level: number): Node<T> {
    const getKey = (node: Node<T>) => this.#getKey(node, level);
    return {
      domain,
      children: new Map(),
      byKey: new LazyHeap(getKey),
      leavingByKey: new LazyHeap((node) => (node.leaving > 0 ? getKey(node) : undefined)),
      sets: [],
      taken: 0,
      leaving: 0,
    };
  }

  /** Leaves first, because a key contains the key of the best child. */
  #fillHeaps(node: Node<T>): void {
    for (const child of node.children.values()) {
      this.#fillHeaps(child);
      node.byKey.push(child);
      node.leavingByKey.push(child);
    }
  }

  /** The key of a child at `level`. Undefined if it has no remaining set. */
  #getKey(node: Node<T>, level: number): Key | undefined {
    const sets = this.#countsAt(level).setsByDomain.get(node.domain) ?? 0;
    if (level === this.#counts.length - 1) {
      const next = node.sets[node.taken];
      return next && [sets, -next.rank];
    }
    const below = node.byKey.peekKey();
    return below && [sets, ...below];
  }

  #countsAt(level: number): SpreadCounts<T> {
    const counts = this.#counts[level];
    assert(counts, "each level of the tree has a spread rule");
    return counts;
  }
}

function decrement<T>(counts: SpreadCounts<T>, domain: string): void {
  const { setsByDomain, domainsBySets } = counts;
  const before = setsByDomain.get(domain);
  assert(before !== undefined && before > 0, "a set that is taken is counted in its domain");
  setsByDomain.set(domain, before - 1);
  domainsBySets.set(before, (domainsBySets.get(before) ?? 0) - 1);
  domainsBySets.set(before - 1, (domainsBySets.get(before - 1) ?? 0) + 1);
  // The domain itself now has one less, so the highest number decreases by one at most.
  if (before === counts.setsMax && domainsBySets.get(before) === 0) counts.setsMax = before - 1;
}

/** A binary heap of nodes whose keys only decrease. It computes a key again at the top. */
class LazyHeap<T> {
  readonly #getKey: (node: Node<T>) => Key | undefined;
  readonly #entries: { node: Node<T>; key: Key }[] = [];

  constructor(getKey: (node: Node<T>) => Key | undefined) {
    this.#getKey = getKey;
  }

  push(node: Node<T>): void {
    const key = this.#getKey(node);
    if (!key) return;
    const entries = this.#entries;
    let at = entries.push({ node, key }) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (compareKeys(this.#keyAt(parent), key) >= 0) break;
      this.#swap(at, parent);
      at = parent;
    }
  }

  peek(): Node<T> | undefined {
    this.#correctTop();
    return this.#entries[0]?.node;
  }

  peekKey(): Key | undefined {
    this.#correctTop();
    return this.#entries[0]?.key;
  }

  #correctTop(): void {
    for (let top = this.#entries[0]; top; top = this.#entries[0]) {
      const key = this.#getKey(top.node);
      if (key && compareKeys(key, top.key) === 0) return;
      if (key) top.key = key;
      else this.#removeTop();
      this.#siftDown();
    }
  }

  #removeTop(): void {
    const last = this.#entries.pop();
    if (last && this.#entries.length > 0) this.#entries[0] = last;
  }

  #siftDown(): void {
    const { length } = this.#entries;
    for (let at = 0; ;) {
      let highest = at;
      for (const child of [2 * at + 1, 2 * at + 2])
        if (child < length && compareKeys(this.#keyAt(child), this.#keyAt(highest)) > 0)
          highest = child;
      if (highest === at) return;
      this.#swap(at, highest);
      at = highest;
    }
  }

  #keyAt(at: number): Key {
    const entry = this.#entries[at];
    assert(entry, "the heap has an entry at this position");
    return entry.key;
  }

  #swap(a: number, b: number): void {
    const [first, second] = [this.#entries[a], this.#entries[b]];
    assert(first && second, "the heap has entries at both positions");
    this.#entries[a] = second;
    this.#entries[b] = first;
  }
}

function compareKeys(a: Key, b: Key): number {
  for (let i = 0; i < a.length; i++) {
    const difference = (a[i] as number) - (b[i] as number);
    if (difference !== 0) return difference;
  }
  return 0;
}
