import fc from "fast-check";
import { expect, it } from "vitest";
import { hostOf, policyOf } from "../../../test/support/fleet/scheduler-world.ts";
import { newBitmap, setBit } from "./bitmap.ts";
import { createHostTable } from "./host-table.ts";
import { createSpreadRule, domainsBy, findOpenDomains } from "./spread-rule.ts";

/** Two hosts in each of four zones. Only the first `openHosts` may take sets. */
const hosts = Array.from({ length: 8 }, (_, rank) => hostOf(`h${rank}`, { zone: `z${rank % 4}` }));
const rank = fc.integer({ min: 0, max: hosts.length - 1 });

it("admits by the counts of all domains after each placement and each replacement", () => {
  const steps = fc.array(fc.record({ rank, isReplaced: fc.boolean() }), { maxLength: 30 });
  fc.assert(
    fc.property(
      fc.array(rank, { maxLength: 12 }),
      steps,
      fc.integer({ min: 1, max: 4 }),
      fc.integer({ min: 1, max: 2 }),
      (placed, changes, openHosts, maxSkew) => {
        const counts = hosts.map((_, of) => placed.filter((other) => other === of).length);
        const table = createHostTable(hosts, policyOf(), new Map());
        const allowed = newBitmap(hosts.length);
        for (let of = 0; of < openHosts; of++) setBit(allowed, of);
        const domains = domainsBy("zone", table);
        const open = findOpenDomains(domains, allowed);
        const byHost = new Map(hosts.map(({ id }, of) => [id, counts[of] ?? 0]));
        const rule = createSpreadRule(
          { by: "zone", maxSkew },
          { table, domains, open, placed: byHost },
        );
        const inZone = (of: number) => (counts[of % 4] ?? 0) + (counts[(of % 4) + 4] ?? 0);
        for (const change of changes) {
          const count = counts[change.rank] ?? 0;
          if (change.isReplaced && count === 0) continue;
          counts[change.rank] = count + (change.isReplaced ? -1 : 1);
          if (change.isReplaced) rule.noteReplaced(change.rank);
          else rule.notePlaced(change.rank);
          const lowest = Math.min(...[0, 1, 2, 3].slice(0, openHosts).map(inZone));
          const admitted = hosts.map((_, of) => inZone(of) + 1 - lowest <= maxSkew);
          expect(hosts.map((_, of) => rule.admits(of))).toEqual(admitted);
          expect(rule.countAgainst()).toBe(admitted.filter((is) => !is).length);
        }
      },
    ),
  );
});
