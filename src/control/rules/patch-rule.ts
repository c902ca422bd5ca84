import {
  type CreateRule,
  describePortFault,
  formatPorts,
  type PatchRule,
  type Rule,
} from "../../contracts/api/rules.ts";
import { describeRule } from "../../contracts/api/rule-texts.ts";
import { type FieldError, notFound } from "../../contracts/common/app-error.ts";
import { findRule } from "../../db/queries/rules/read-rules.ts";
import { bumpRulesVersions, updateRule } from "../../db/queries/rules/write-rules.ts";
import { assert } from "../../lib/assert.ts";
import type { ControlContext } from "../runtime/context.ts";
import { assertGeneration } from "../runtime/preconditions.ts";
import { unitOfWork } from "../runtime/unit-of-work.ts";
import { assertPortMatches, invalidRules } from "./create-rules.ts";
import { lockRuleObjects, resolveRule } from "./resolve-rules.ts";

/**
 * Changes the named members of a rule at the given generation. A change that changes nothing leaves
 * the generation, but can end connections. Throws not-found, generation-mismatch, invalid-request
 * and quota-exceeded.
 */
export async function patchRule(
  ctx: ControlContext,
  tenantId: string,
  name: string,
  generation: number | undefined,
  { endConnections, ...changes }: PatchRule,
): Promise<Rule> {
  return unitOfWork(ctx, async (tx) => {
    const read = await findRule(tx, tenantId, name);
    if (!read) throw notFound("rule");
    // The services that the rule names already are locked too: their deletion would delete it.
    const objects = await lockRuleObjects(tx, tenantId, [merge(read, changes), toInput(read)]);
    const before = await findRule(tx, tenantId, name);
    if (!before) throw notFound("rule");
    assertGeneration(before.rule, generation, "rule");
    const errors: FieldError[] = [];
    const merged = merge(before, changes);
    const portFault = describePortFault(merged.protocol, merged.ports);
    if (portFault !== undefined) errors.push({ pointer: "/ports", detail: portFault });
    const resolved = resolveRule({ rule: merged, pointer: "" }, objects, errors);
    if (errors.length > 0 || !resolved) throw invalidRules(errors);
    const { networkId, ...definition } = resolved;
    const changed = listChanged(before.definition, definition);
    if (changed.length === 0) {
      if (!endConnections) return before.rule;
      // The request may repeat an earlier one, which ended no connections.
      await bumpRulesVersions(tx, [networkId], true);
      tx.signal(`network:${networkId}`);
      return before.rule;
    }
    await updateRule(tx, before.rule.id, definition);
    if (changed.includes("ports")) await assertPortMatches(tx, objects.networks);
    await bumpRulesVersions(tx, [networkId], endConnections);
    const after = await findRule(tx, tenantId, name);
    assert(after, "a rule of a locked network exists");
    const { network } = after.rule;
    const data = { network, rule: name, definition: describeRule(after.rule), changed };
    tx.emit({ kind: "rule-changed", tenantId, data });
    tx.signal(`network:${networkId}`);
    return after.rule;
  });
}

type RuleRow = NonNullable<Awaited<ReturnType<typeof findRule>>>;

function merge(row: RuleRow, changes: Omit<PatchRule, "endConnections">): CreateRule {
  const given = Object.fromEntries(
    Object.entries(changes).filter(([, value]) => value !== undefined),
  );
  return { ...toInput(row), ...given };
}

function toInput({ rule, definition }: RuleRow): CreateRule {
  return {
    name: rule.name,
    network: rule.network,
    direction: rule.direction,
    action: rule.action,
    protocol: rule.protocol,
    ports: [...definition.ports],
    service: rule.service,
    peer: rule.peer,
    priority: rule.priority,
  };
}

const members = {
  direction: "direction",
  action: "action",
  protocol: "protocol",
  ports: "ports",
  serviceId: "service",
  peerKind: "peer",
  peerCidr: "peer",
  peerServiceId: "peer",
  priority: "priority",
} as const;

function listChanged(before: RuleRow["definition"], after: RuleRow["definition"]): string[] {
  const toText = (key: keyof typeof members, from: RuleRow["definition"]): string =>
    key === "ports" ? formatPorts(from.ports).join() : String(from[key]);
  const changed = Object.entries(members).flatMap(([key, member]) => {
    const column = key as keyof typeof members;
    return toText(column, before) === toText(column, after) ? [] : member;
  });
  return [...new Set(changed)];
}
