import { type SetTemplate, templateWithSize } from "../../contracts/api/set-template.ts";
import type { Queryable } from "../../db/postgres/open-postgres.ts";
import { type SetSize, updateRevisionVolumes } from "../../db/queries/services/resizes.ts";
import { deleteUnusedRevisions, insertRevision } from "../../db/queries/services/revisions.ts";
import { findTemplate, type ServiceRow } from "../../db/queries/services/write-services.ts";
import { assert } from "../../lib/assert.ts";

/** The newest revisions stay, even if no set has them. */
const RECENT_REVISIONS_MAX = 20;
const REVISIONS_DELETED_MAX = 100;

/**
 * Makes the template the target revision, and its CPU and memory the size of new sets. New sets
 * have the volume size of the current revision. A target has its own until it is adopted.
 */
export async function applyTemplate(
  tx: Queryable,
  service: ServiceRow,
  changed: ServiceRow,
  template: SetTemplate,
): Promise<void> {
  const size = getTemplateSize(template);
  const current = await getRevision(tx, service.id, service.revision);
  if (isSameApartFromSize(current, template)) {
    changed.targetRevision = service.revision;
    changed.size = size;
    return;
  }
  const volumeBytes = current.volume ? service.size.volumeBytes || current.volume.sizeBytes : 0;
  changed.size = { ...size, volumeBytes };
  // A later difference means that the size of the target is out of date, see adoptTarget.
  await updateRevisionVolumes(tx, service.id, [service.revision], volumeBytes);
  const target = await getRevision(tx, service.id, service.targetRevision);
  if (isSameApartFromSize(target, template)) {
    changed.targetRevision = service.targetRevision;
    await updateRevisionVolumes(tx, service.id, [service.targetRevision], size.volumeBytes);
  } else {
    changed.targetRevision = await insertRecentRevision(tx, service.id, template);
  }
}

/** Inserts a revision and deletes older ones that no set has. Returns its number. */
export async function insertRecentRevision(
  tx: Queryable,
  serviceId: string,
  template: SetTemplate,
): Promise<number> {
  const number = await insertRevision(tx, serviceId, template);
  await deleteUnusedRevisions(tx, serviceId, {
    numberMax: number - RECENT_REVISIONS_MAX,
    limit: REVISIONS_DELETED_MAX,
  });
  return number;
}

export async function getRevision(
  tx: Queryable,
  serviceId: string,
  number: number,
): Promise<SetTemplate> {
  const template = await findTemplate(tx, serviceId, number);
  assert(template, "the current and the target revision of a service exist");
  return template;
}

/**
 * Makes the target revision the current one, with the volume size of its template.
 *
 * This release stores the volume size of a service in the current revision as well, and a resize
 * changes both and the target. If they differ, a process of the previous release has changed only
 * the service. Then its size applies, as it did in that release.
 */
export async function adoptTarget(tx: Queryable, changed: ServiceRow): Promise<void> {
  if (changed.revision === changed.targetRevision) return;
  const current = await getRevision(tx, changed.id, changed.revision);
  const target = await getRevision(tx, changed.id, changed.targetRevision);
  changed.revision = changed.targetRevision;
  const targetBytes = target.volume?.sizeBytes ?? 0;
  const { volumeBytes } = changed.size;
  const isTargetOutdated = volumeBytes > 0 && volumeBytes !== (current.volume?.sizeBytes ?? 0);
  changed.size = {
    ...changed.size,
    volumeBytes: target.volume && isTargetOutdated ? volumeBytes : targetBytes,
  };
}

/** One schema normalizes templates, but jsonb does not keep the order of members. */
function isSameApartFromSize(a: SetTemplate, b: SetTemplate): boolean {
  const size = { cpuMillis: 1, memoryBytes: 1, volumeBytes: 1 };
  return canonical(templateWithSize(a, size)) === canonical(templateWithSize(b, size));
}

function canonical(value: unknown): string {
  return JSON.stringify(value, (_key, member: unknown) =>
    typeof member === "object" && member !== null && !Array.isArray(member)
      ? Object.fromEntries(Object.entries(member).sort(([x], [y]) => (x < y ? -1 : 1)))
      : member,
  );
}

/** The amounts of a set that a resize can change. */
export function getTemplateSize(template: SetTemplate): SetSize {
  const { cpuMillis, memoryBytes, volume } = template;
  return { cpuMillis, memoryBytes, volumeBytes: volume?.sizeBytes ?? 0 };
}
