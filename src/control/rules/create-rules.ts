import {
  type CreateRule,
  type CreateRules,
  formatPorts,
  type Rule,
  RULES_PER_TENANT_MAX,
} from "../../contracts/api/rules.ts";
import { describeRule } from "../../contracts/api/rule-texts.ts";
import { RULES_PER_NETWORK_MAX } from "../../contracts/common/limits.ts";
import { hasMorePortMatches, PORT_MATCHES_MAX } from "../../contracts/common/match-ports.ts";
import { DEFAULT_NETWORK } from "../../contracts/api/networks.ts";
import { AppError, type FieldError } from "../../contracts/common/app-error.ts";
import { listRulesById } from "../../db/queries/rules/read-rules.ts";
import {
  bumpRulesVersions,
  countRules,
  insertRules,
  listRulePorts,
  type NewRule,
} from "../../db/queries/rules/write-rules.ts";
import { lockTenant } from "../../db/queries/tenancy/tenant-usage.ts";
import { newIds } from "../../lib/ids.ts";
import { ensureDefaultNetwork } from "../networks/default-network.ts";
import type { ControlContext, UnitOfWork } from "../runtime/context.ts";
import { unitOfWork } from "../runtime/unit-of-work.ts";
import { lockRuleObjects, resolveRule } from "./resolve-rules.ts";

/** The rules that the text of an event names. Its data has their number. */
const RULES_NAMED_MAX = 5;
const NAMES_IN_ERROR_MAX = 5;

/**
 * Creates all rules of a request, or none. Throws invalid-request with pointers, already-exists and
 * quota-exceeded.
 */
export async function createRules(
  ctx: ControlContext,
  tenantId: string,
  { rules, endConnections }: CreateRules,
): Promise<Rule[]> {
  assertNamedOnce(rules);
  if (rules.some(({ network }) => network === DEFAULT_NETWORK))
    await ensureDefaultNetwork(ctx, tenantId);
  return unitOfWork(ctx, async (tx) => {
    const objects = await lockRuleObjects(tx, tenantId, rules);
    const errors: FieldError[] = [];
    const ids = newIds("rule", rules.length).sort();
    const added = rules.flatMap((rule, position): NewRule[] => {
      const resolved = resolveRule({ rule, pointer: `/rules/${position}` }, objects, errors);
      const id = ids[position];
      return resolved && id !== undefined ? [{ ...resolved, id, tenantId, name: rule.name }] : [];
    });
    if (errors.length > 0) throw invalidRules(errors);
    await lockTenant(tx, tenantId);
    await assertWithinLimits(tx, tenantId, rules, [...objects.networks.values()]);
    const inserted = new Set(await insertRules(tx, added));
    if (inserted.size < rules.length) throw alreadyExists(rules, inserted);
    const networkIds = [...new Set(added.map(({ networkId }) => networkId))];
    if (added.some(({ ports }) => ports.length > 0)) await assertPortMatches(tx, objects.networks);
    await bumpRulesVersions(tx, networkIds, endConnections);
    emitCreated(tx, tenantId, rules);
    tx.signal(...networkIds.map((id) => `network:${id}` as const));
    return listRulesById(tx, ids);
  });
}

/** The network of each rule is locked, and the tenant too, so that no count changes. */
async function assertWithinLimits(
  tx: UnitOfWork,
  tenantId: string,
  rules: readonly CreateRule[],
  networks: readonly { id: string; name: string }[],
): Promise<void> {
  const counts = await countRules(tx, tenantId);
  const before = counts.reduce((sum, count) => sum + count.rules, 0);
  if (before + rules.length > RULES_PER_TENANT_MAX)
    throw new AppError("quota-exceeded", {
      detail: `The tenant has ${before} rules, and at most ${RULES_PER_TENANT_MAX} are permitted. Delete rules, or merge some: a rule may have several ports, and a cidr many addresses.`,
    });
  for (const { id, name } of networks) {
    const beforeHere = counts.find(({ networkId }) => networkId === id)?.rules ?? 0;
    const addedHere = rules.filter(({ network }) => network === name).length;
    if (beforeHere + addedHere > RULES_PER_NETWORK_MAX)
      throw new AppError("quota-exceeded", {
        detail: `Network ${name} has ${beforeHere} rules, and at most ${RULES_PER_NETWORK_MAX} are permitted. Delete rules, or merge some: a rule may have several ports, and a cidr many addresses.`,
      });
  }
}

/**
 * Hosts match the ports of rules by masks, and permit no new connection in a network that needs too
 * many. The networks are locked, and the transaction has written its rules.
 */
export async function assertPortMatches(
  tx: UnitOfWork,
  networks: ReadonlyMap<string, { id: string; name: string }>,
): Promise<void> {
  const named = [...networks.values()];
  for (const { networkId, ports } of await listRulePorts(
    tx,
    named.map(({ id }) => id),
  )) {
    if (!hasMorePortMatches(ports, PORT_MATCHES_MAX)) continue;
    const name = named.find(({ id }) => id === networkId)?.name ?? networkId;
    throw new AppError("quota-exceeded", {
      detail: `The port ranges of the rules of network ${name} need more than ${PORT_MATCHES_MAX} matches. Use single ports, ranges such as 8192-8447 that begin at a multiple of their length, or fewer rules.`,
    });
  }
}

function emitCreated(tx: UnitOfWork, tenantId: string, rules: readonly CreateRule[]): void {
  for (const network of new Set(rules.map((rule) => rule.network))) {
    const ofNetwork = rules.filter((rule) => rule.network === network);
    const named = ofNetwork
      .slice(0, RULES_NAMED_MAX)
      .map((rule) => `${rule.name} (${describeRule({ ...rule, ports: formatPorts(rule.ports) })})`);
    const data = { network, rules: named, count: ofNetwork.length };
    tx.emit({ kind: "rules-created", tenantId, data });
  }
}

function assertNamedOnce(rules: readonly CreateRule[]): void {
  const positions = new Map<string, number>();
  const errors: FieldError[] = [];
  for (const [position, { name }] of rules.entries()) {
    const first = positions.get(name);
    if (first === undefined) positions.set(name, position);
    else
      errors.push({
        pointer: `/rules/${position}/name`,
        detail: `The request names rule ${name} twice: also at /rules/${first}.`,
      });
  }
  if (errors.length > 0) throw invalidRules(errors);
}

const ERRORS_SHOWN_MAX = 20;

/** The details of the first faults. A request with 500 rules can have as many. */
export function invalidRules(errors: readonly FieldError[]): AppError {
  const shown = errors.slice(0, ERRORS_SHOWN_MAX);
  const details = new Set(shown.map(({ detail }) => detail));
  const rest = errors.length - shown.length;
  const more = rest === 0 ? "" : ` ${rest} more faults are not shown.`;
  return new AppError("invalid-request", { detail: [...details].join(" ") + more, errors: shown });
}

function alreadyExists(rules: readonly CreateRule[], inserted: ReadonlySet<string>): AppError {
  const errors = rules.flatMap(({ name }, position) =>
    inserted.has(name)
      ? []
      : { pointer: `/rules/${position}/name`, detail: `The tenant already has a rule ${name}.` },
  );
  const names = errors.slice(0, NAMES_IN_ERROR_MAX).map(({ detail }) => detail);
  const more =
    errors.length > names.length ? ` It has ${errors.length - names.length} more of them.` : "";
  return new AppError("already-exists", {
    detail: `${names.join(" ")}${more} Berth created no rule of this request.`,
    errors: errors.slice(0, ERRORS_SHOWN_MAX),
  });
}
