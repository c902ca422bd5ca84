import { AppError } from "../../contracts/common/app-error.ts";
import type { SetTemplate } from "../../contracts/api/set-template.ts";
import type { Queryable } from "../../db/postgres/open-postgres.ts";
import {
  getTenantUsage,
  lockTenant,
  type QuotaAmounts,
  sumSetsOnDownHosts,
  type TenantUsage,
} from "../../db/queries/tenancy/tenant-usage.ts";
import { describeBytes } from "../../lib/text/describe-bytes.ts";

/**
 * How a request changes the usage of its tenant.
 *
 * A new template of a service does not change the amounts of its existing sets. A set that is being
 * removed has its amounts until its host reports it absent. So a quota bounds both sums.
 */
export interface QuotaGrowth {
  /** The growth of desired replicas times the newest templates. */
  intended: QuotaAmounts;
  /** The growth of the amounts of existing sets. */
  existing: QuotaAmounts;
  /** The volumes come out of the trash, so that a large trash does not prevent them. */
  restoresVolumes?: boolean;
}

/** The amounts of `count` sets of this template. */
export function computeSetAmounts(template: SetTemplate, count: number): QuotaAmounts {
  return {
    sets: count,
    cpuMillis: count * template.cpuMillis,
    memoryBytes: count * template.memoryBytes,
    volumeBytes: count * (template.volume?.sizeBytes ?? 0),
    rootfsBytes: count * template.rootfsBytes,
  };
}

/** The growth by `count` new sets of this template. */
export function computeSetGrowth(template: SetTemplate, count: number): QuotaGrowth {
  const amounts = computeSetAmounts(template, count);
  return { intended: amounts, existing: amounts };
}

/** The growth by new services with all their replicas. */
export function sumServiceAmounts(
  services: readonly { template: SetTemplate; desiredReplicas: number }[],
): QuotaAmounts {
  return services
    .map(({ template, desiredReplicas }) => computeSetAmounts(template, desiredReplicas))
    .reduce(addAmounts);
}

function addAmounts(a: QuotaAmounts, b: QuotaAmounts): QuotaAmounts {
  return {
    sets: a.sets + b.sets,
    cpuMillis: a.cpuMillis + b.cpuMillis,
    memoryBytes: a.memoryBytes + b.memoryBytes,
    volumeBytes: a.volumeBytes + b.volumeBytes,
    rootfsBytes: a.rootfsBytes + b.rootfsBytes,
  };
}

export function subtractAmounts(a: QuotaAmounts, b: QuotaAmounts): QuotaAmounts {
  return {
    sets: a.sets - b.sets,
    cpuMillis: a.cpuMillis - b.cpuMillis,
    memoryBytes: a.memoryBytes - b.memoryBytes,
    volumeBytes: a.volumeBytes - b.volumeBytes,
    rootfsBytes: a.rootfsBytes - b.rootfsBytes,
  };
}

/**
 * Throws quota-exceeded if a growing dimension would exceed the quota. It also throws for new
 * volumes while the tenant's trash is larger than its bound.
 *
 * A lock on the tenant's row serializes additions, so that two concurrent ones cannot both take the
 * rest of a quota. A tenant with an ample quota takes no lock (see TenantUsage.hasAmpleQuota).
 */
export async function assertWithinQuota(
  tx: Queryable,
  tenantId: string,
  growth: QuotaGrowth,
): Promise<void> {
  if (!isGrowing(growth)) return;
  assertNoExcess(await readUsageNearQuota(tx, tenantId, largestGrowth(growth)), growth);
}

/**
 * Throws as assertWithinQuota does, but locks nothing, for a dry run. So a concurrent change may
 * take the rest of the quota before the real request.
 */
export async function assertWithinQuotaUnlocked(
  q: Queryable,
  tenantId: string,
  growth: QuotaGrowth,
): Promise<void> {
  if (!isGrowing(growth)) return;
  assertNoExcess(await getTenantUsage(q, tenantId, largestGrowth(growth)), growth);
}

function isGrowing(growth: QuotaGrowth): boolean {
  const largest = largestGrowth(growth);
  return dimensions.some(({ name }) => largest[name] > 0);
}

function assertNoExcess(
  usage: TenantUsage,
  { intended, existing, restoresVolumes = false }: QuotaGrowth,
): void {
  const growth = largestGrowth({ intended, existing });
  const excesses = [
    ...dimensions.flatMap((dimension) => findExcess(dimension, usage, { intended, existing })),
    ...(growth.volumeBytes > 0 && !restoresVolumes ? findTrashExcess(usage) : []),
  ];
  if (excesses.length === 0) return;
  throw new AppError("quota-exceeded", {
    detail: excesses.join(" "),
  });
}

/**
 * Counts how many of at most `countMax` new sets of this template the quota allows. The tenant's
 * row is locked as in assertWithinQuota, so the answer holds until the transaction ends.
 */
export async function countWithinQuota(
  tx: Queryable,
  tenantId: string,
  template: SetTemplate,
  countMax: number,
): Promise<number> {
  const usage = await readUsageNearQuota(tx, tenantId, computeSetAmounts(template, countMax));
  if (usage.hasAmpleQuota) return countMax;
  const each = computeSetAmounts(template, 1);
  if (each.volumeBytes > 0 && findTrashExcess(usage).length > 0) return 0;
  return countFitting(each, countMax, (name) => {
    return usage.max[name] - Math.max(usage.intended[name], usage.existing[name]);
  });
}

/**
 * Counts how many of at most `countMax` sets that a service already wants may be created now. Sets
 * that are being removed count until their host reports them absent, so a caller that deletes sets
 * in a loop exceeds no quota. Those on hosts that are down do not count, so failover needs no
 * quota. A tenant near its quota is locked as in assertWithinQuota: call this before hosts are
 * locked.
 */
export async function countReplaceable(
  tx: Queryable,
  tenantId: string,
  template: SetTemplate,
  countMax: number,
): Promise<number> {
  const usage = await readUsageNearQuota(tx, tenantId, computeSetAmounts(template, countMax));
  if (usage.hasAmpleQuota) return countMax;
  const each = computeSetAmounts(template, 1);
  const countFittingBeside = (excluded: Partial<QuotaAmounts>): number =>
    countFitting(each, countMax, (name) => {
      // An admin may have lowered the quota below the sets that services want; those stay granted.
      const max = Math.max(usage.max[name], usage.intended[name]);
      return max - (usage.existing[name] - (excluded[name] ?? 0));
    });
  const count = countFittingBeside({});
  if (count === countMax) return count;
  return countFittingBeside(await sumSetsOnDownHosts(tx, tenantId));
}

/**
 * Reads the usage of a tenant. Unless its quota is ample for `growth`, the tenant's row is locked
 * first, so that the usage holds until the transaction ends.
 */
async function readUsageNearQuota(
  tx: Queryable,
  tenantId: string,
  growth: QuotaAmounts,
): Promise<TenantUsage> {
  const usage = await getTenantUsage(tx, tenantId, growth);
  if (usage.hasAmpleQuota) return usage;
  await lockTenant(tx, tenantId);
  return getTenantUsage(tx, tenantId, growth);
}

/** Counts how many of at most `countMax` sets of these amounts fit into the free amounts. */
function countFitting(
  each: QuotaAmounts,
  countMax: number,
  getFree: (dimension: keyof QuotaAmounts) => number,
): number {
  const counts = dimensions.map(({ name }) =>
    each[name] <= 0 ? countMax : Math.floor(getFree(name) / each[name]),
  );
  return Math.max(0, Math.min(countMax, ...counts));
}

interface Dimension {
  name: keyof QuotaAmounts;
  unit: string;
}

const dimensions: readonly Dimension[] = [
  { name: "sets", unit: "sets" },
  { name: "cpuMillis", unit: "millicores of CPU" },
  { name: "memoryBytes", unit: "of memory" },
  { name: "volumeBytes", unit: "of volumes" },
  { name: "rootfsBytes", unit: "of root file systems" },
];

function findExcess(
  { name, unit }: Dimension,
  usage: TenantUsage,
  { intended, existing }: QuotaGrowth,
): string[] {
  const describe = (amount: number) => (name.endsWith("Bytes") ? describeBytes(amount) : amount);
  const [max, used] = [usage.max[name], Math.max(usage.intended[name], usage.existing[name])];
  if (intended[name] > 0 && usage.intended[name] + intended[name] > max) {
    return [
      `The tenant's services use ${describe(usage.intended[name])} ${unit}, the request adds ${describe(intended[name])}, and the quota allows ${describe(max)}. Scale a service in, or request a larger quota from an admin.`,
    ];
  }
  if (existing[name] > 0 && usage.existing[name] + existing[name] > max) {
    return [
      `The tenant's sets use ${describe(used)} ${unit}, those being removed included, the request adds ${describe(existing[name])}, and the quota allows ${describe(max)}. Wait until the sets are removed, or request a larger quota from an admin.`,
    ];
  }
  return [];
}

function findTrashExcess({ trashBytes, max }: TenantUsage): string[] {
  if (trashBytes <= max.trashBytes) return [];
  return [
    `The tenant's trashed volumes use ${describeBytes(trashBytes)}, and the quota allows ${describeBytes(max.trashBytes)}. New volumes need a smaller trash: purge volumes with \`berth volume purge\`, wait for their retention to end, or request a larger quota from an admin.`,
  ];
}

function largestGrowth({ intended: a, existing: b }: QuotaGrowth): QuotaAmounts {
  return {
    sets: Math.max(a.sets, b.sets),
    cpuMillis: Math.max(a.cpuMillis, b.cpuMillis),
    memoryBytes: Math.max(a.memoryBytes, b.memoryBytes),
    volumeBytes: Math.max(a.volumeBytes, b.volumeBytes),
    rootfsBytes: Math.max(a.rootfsBytes, b.rootfsBytes),
  };
}
