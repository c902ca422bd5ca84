import { notFound } from "../../contracts/common/app-error.ts";
import { findRule } from "../../db/queries/rules/read-rules.ts";
import {
  bumpRulesVersions,
  deleteRuleRow,
  lockRuleNetworks,
  lockRuleServices,
} from "../../db/queries/rules/write-rules.ts";
import type { ControlContext } from "../runtime/context.ts";
import { assertGeneration } from "../runtime/preconditions.ts";
import { unitOfWork } from "../runtime/unit-of-work.ts";

/** Deletes a rule at the given generation. Throws not-found and generation-mismatch. */
export async function deleteRule(
  ctx: ControlContext,
  tenantId: string,
  name: string,
  { generation, endsConnections }: { generation: number | undefined; endsConnections: boolean },
): Promise<void> {
  await unitOfWork(ctx, async (tx) => {
    const read = await findRule(tx, tenantId, name);
    if (!read) throw notFound("rule");
    const { network, service, peer } = read.rule;
    // The deletion of a service deletes its rules, and locks their networks last.
    const services = [service ?? [], "service" in peer ? peer.service : []].flat();
    await lockRuleServices(tx, tenantId, services);
    await lockRuleNetworks(tx, tenantId, [network]);
    const current = await findRule(tx, tenantId, name);
    // A rule of another network has this name since.
    if (current?.networkId !== read.networkId) throw notFound("rule");
    assertGeneration(current.rule, generation, "rule");
    await deleteRuleRow(tx, current.rule.id);
    await bumpRulesVersions(tx, [current.networkId], endsConnections);
    const data = { cause: "request", network, rules: [name], count: 1 } as const;
    tx.emit({ kind: "rules-deleted", tenantId, data });
    tx.signal(`network:${current.networkId}`);
  });
}
