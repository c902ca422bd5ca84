import type { SpreadRule } from "./spread-rule.ts";

/**
 * The preferred spread rules of one shape during one plan. A host that violates them is used only
 * if no other host fits: first the hosts with the smallest excess over maxSkew.
 *
 * Capacity only shrinks within a plan, so the permitted excess stays valid until a spread rule of
 * the service permits more. Thus a placement costs one search, and a second one only after that.
 */
export class PreferredSpread {
  readonly #preferred: readonly SpreadRule[];
  readonly #all: readonly SpreadRule[];
  /** The sum of the excess over all rules that a host may have. */
  #excessMax = 0;
  /** The relaxations of all rules when `#excessMax` was determined. */
  #relaxations = 0;
  /** The smallest excess of the hosts that the present search has refused. */
  #leastRefused = Number.POSITIVE_INFINITY;

  constructor(required: readonly SpreadRule[], preferred: readonly SpreadRule[]) {
    this.#preferred = preferred;
    this.#all = [...required, ...preferred];
  }

  /** Call it before each search. */
  begin(): void {
    this.#leastRefused = Number.POSITIVE_INFINITY;
    if (this.#preferred.length === 0) return;
    const relaxations = this.#all.reduce((sum, rule) => sum + rule.relaxations, 0);
    if (relaxations === this.#relaxations) return;
    this.#relaxations = relaxations;
    this.#excessMax = 0;
  }

  /** Call it only for hosts that all other rules permit. */
  admits(rank: number): boolean {
    let excess = 0;
    for (const rule of this.#preferred) excess += rule.getExcess(rank);
    if (excess <= this.#excessMax) return true;
    this.#leastRefused = Math.min(this.#leastRefused, excess);
    return false;
  }

  /**
   * Permits the smallest excess that the search has refused, after a search without a result.
   * Returns false if it has refused no host: then no host fits.
   */
  relax(): boolean {
    if (this.#leastRefused === Number.POSITIVE_INFINITY) return false;
    this.#excessMax = this.#leastRefused;
    return true;
  }
}
