import type { PatchTenant, Quota, Tenant, TenantChange } from "../../contracts/api/tenancy.ts";
import { notFound } from "../../contracts/common/app-error.ts";
import type { Queryable } from "../../db/postgres/open-postgres.ts";
import { getTenantUsage, type QuotaAmounts } from "../../db/queries/tenancy/tenant-usage.ts";
import {
  listServiceRequests,
  lockTenantByName,
  updateTenant,
} from "../../db/queries/tenancy/tenants.ts";
import { assert } from "../../lib/assert.ts";
import type { ControlContext } from "../runtime/context.ts";
import { assertGeneration } from "../runtime/preconditions.ts";
import { unitOfWork } from "../runtime/unit-of-work.ts";
import { findMissingGrants } from "./grants.ts";

const SERVICES_PER_PAGE = 500;
const SERVICES_NAMED_MAX = 20;

/**
 * Changes the quota and the grants of a tenant at the given generation.
 *
 * Services that exist keep running with their placement and priority, and Berth continues to
 * replace their sets. Their next change or scale-out needs the grants again. The effects name them.
 * Throws not-found and generation-mismatch.
 */
export async function patchTenant(
  ctx: ControlContext,
  name: string,
  generation: number | undefined,
  patch: PatchTenant,
): Promise<TenantChange> {
  return unitOfWork(ctx, async (tx) => {
    const before = await lockTenantByName(tx, name);
    if (!before) throw notFound("tenant");
    assertGeneration(before, generation, "tenant");
    const tenant = await updateTenant(tx, {
      id: before.id,
      quota: { ...before.quota, ...withoutUndefined(patch.quota) },
      grants: { ...before.grants, ...withoutUndefined(patch.grants) },
    });
    assert(tenant, "a locked tenant is updated");
    const changed = Object.keys({ ...patch.quota, ...patch.grants });
    tx.emit({
      kind: "tenant-changed",
      tenantId: tenant.id,
      data: { tenant: name, changed },
    });
    const effects = [
      ...(await describeQuota(tx, tenant)),
      ...(patch.grants ? await describeGrants(tx, tenant) : []),
    ];
    if (effects.length === 0) effects.push("The change applies to requests from now on.");
    return { tenant, effects };
  });
}

function withoutUndefined<T extends object>(
  members: T | undefined,
): { [K in keyof T]?: NonNullable<T[K]> } {
  const present = Object.entries(members ?? {}).filter(([, value]) => value !== undefined);
  return Object.fromEntries(present) as { [K in keyof T]?: NonNullable<T[K]> };
}

async function describeQuota(tx: Queryable, tenant: Tenant): Promise<string[]> {
  const nothing = { sets: 0, cpuMillis: 0, memoryBytes: 0, volumeBytes: 0, rootfsBytes: 0 };
  const { intended, existing, trashBytes } = await getTenantUsage(tx, tenant.id, nothing);
  const used = (name: keyof QuotaAmounts) => Math.max(intended[name], existing[name]);
  const usage: Record<keyof Quota, number> = {
    setsMax: used("sets"),
    cpuMillisMax: used("cpuMillis"),
    memoryBytesMax: used("memoryBytes"),
    volumeBytesMax: used("volumeBytes"),
    rootfsBytesMax: used("rootfsBytes"),
    trashBytesMax: trashBytes,
  };
  return Object.entries(usage).flatMap(([member, amount]) =>
    amount > tenant.quota[member as keyof Quota]
      ? `The tenant uses ${amount}, more than ${member}. Berth removes nothing, and refuses additions until the usage is lower.`
      : [],
  );
}

async function describeGrants(tx: Queryable, tenant: Tenant): Promise<string[]> {
  const affected: string[] = [];
  let page;
  let afterName = "";
  do {
    page = await listServiceRequests(tx, tenant.id, afterName, SERVICES_PER_PAGE);
    for (const service of page) {
      const missing = findMissingGrants(tenant.grants, service);
      if (missing.length > 0) affected.push(`${service.name} (${missing.join(", ")})`);
    }
    afterName = page.at(-1)?.name ?? "";
  } while (page.length === SERVICES_PER_PAGE && affected.length <= SERVICES_NAMED_MAX);
  if (affected.length === 0) return [];
  const more = affected.length > SERVICES_NAMED_MAX ? " and more" : "";
  return [
    `Services keep running without a grant: ${affected.slice(0, SERVICES_NAMED_MAX).join(", ")}${more}. Their next scale-out, or change of placement or priority, needs it.`,
  ];
}
