import type { PlacementSpec } from "../../contracts/api/services.ts";
import type { SetTemplate } from "../../contracts/api/set-template.ts";
import type { Queryable } from "../../db/postgres/open-postgres.ts";
import {
  listPlacementSpecs,
  listRepulsions,
  listServiceIds,
  type PendingSetRow,
  type PlacementSpecRow,
} from "../../db/queries/placement/placements.ts";
import type { ServiceRow } from "../../db/queries/services/write-services.ts";
import type { PlacementConstraints, PlacementRequest } from "../../scheduler/placement/model.ts";

/** Pending sets, and what is known of their revisions: of most of them, at least, as each is read by itself. */
export interface PendingSets {
  pending: readonly PendingSetRow[];
  specs: readonly PlacementSpecRow[];
}

/** What the planner is asked for a batch of pending sets; sets of one revision share one constraints object. */
export async function buildPlacementRequests(
  q: Queryable,
  { pending, specs: known }: PendingSets,
): Promise<PlacementRequest[]> {
  const knownKeys = new Set(known.map(revisionKey));
  const missing = new Map<string, { serviceId: string; revision: number }>();
  for (const set of pending) {
    const key = revisionKey(set);
    if (!knownKeys.has(key)) missing.set(key, { serviceId: set.serviceId, revision: set.revision });
  }
  const specs = [...known, ...(await listPlacementSpecs(q, [...missing.values()]))];
  const knownRules = specs.flatMap(({ serviceId, service }) =>
    service ? { serviceId, ...service } : [],
  );
  const serviceIds = await readNamedServices(q, knownRules);
  const tenantIds = knownRules.flatMap(({ tenantId, mayBeRepelled }) =>
    mayBeRepelled ? tenantId : [],
  );
  const repulsions = await listRepulsions(q, [...new Set(tenantIds)]);
  const repelledBy = new Map(
    repulsions.map((row) => [`${row.tenantId}/${row.name}`, row.byServiceIds]),
  );
  const constraints = new Map<
    string,
    { constraints: PlacementConstraints; images: readonly string[] }
  >();
  for (const spec of specs) {
    if (!spec.service) continue;
    const { tenantId, name } = spec.service;
    const rules = { ...spec.service, repelledBy: repelledBy.get(`${tenantId}/${name}`) ?? [] };
    constraints.set(revisionKey(spec), {
      constraints: constraintsOf(rules, serviceIds),
      images: spec.images,
    });
  }
  return pending.flatMap((set) => {
    const spec = constraints.get(revisionKey(set));
    if (!spec) return []; // its service went away since the batch was read
    return {
      setId: set.id,
      serviceId: set.serviceId,
      ask: {
        cpuMillis: set.cpuMillis,
        memoryBytes: set.memoryBytes,
        volumeBytes: set.volumeBytes,
        rootfsBytes: set.rootfsBytes,
      },
      priority: set.priority,
      constraints: spec.constraints,
      images: spec.images,
      avoidHostIds: set.avoidHostIds,
    };
  });
}

/** What the planner is asked for sets of one service that are no rows, or are to be elsewhere than they are. */
export async function requestsOfService(
  q: Queryable,
  service: Pick<ServiceRow, "id" | "tenantId" | "name" | "placement" | "priority">,
  sets: readonly { setId: string; template: SetTemplate; avoidHostIds: readonly string[] }[],
): Promise<PlacementRequest[]> {
  const { id: serviceId, tenantId, name: ownName, placement, priority } = service;
  const names = [...placement.antiAffinity, ...placement.affinity];
  const found = await listServiceIds(
    q,
    names.map((name) => ({ tenantId, name })),
  );
  const repulsions = await listRepulsions(q, [tenantId]);
  const repelledBy = repulsions.find(({ name }) => name === ownName)?.byServiceIds ?? [];
  const ids = new Map(found.map(({ name, id }) => [`${tenantId}/${name}`, id]));
  ids.set(`${tenantId}/${ownName}`, serviceId); // it may name itself before it exists
  const constraints = constraintsOf({ tenantId, placement, repelledBy }, ids);
  return sets.map(({ setId, template, avoidHostIds }) => ({
    setId,
    serviceId,
    ask: {
      cpuMillis: template.cpuMillis,
      memoryBytes: template.memoryBytes,
      volumeBytes: template.volume?.sizeBytes ?? 0,
      rootfsBytes: template.rootfsBytes,
    },
    priority,
    constraints,
    images: template.containers.map(({ image }) => image),
    avoidHostIds,
  }));
}

function revisionKey(of: { serviceId: string; revision: number }): string {
  return `${of.serviceId}/${of.revision}`;
}

/** Whose rules name services of the same tenant. */
interface PlacementRules {
  tenantId: string;
  placement: PlacementSpec;
}

/** `tenantId/name` -> service id, for every name in the rules. */
async function readNamedServices(
  q: Queryable,
  specs: readonly PlacementRules[],
): Promise<Map<string, string>> {
  const names = new Map<string, { tenantId: string; name: string }>();
  for (const spec of specs) {
    for (const name of [...spec.placement.antiAffinity, ...spec.placement.affinity]) {
      names.set(`${spec.tenantId}/${name}`, { tenantId: spec.tenantId, name });
    }
  }
  const found = await listServiceIds(q, [...names.values()]);
  return new Map(found.map((service) => [`${service.tenantId}/${service.name}`, service.id]));
}

/**
 * Names become ids; a name that no service has yet constrains nothing. What others forbid this service is forbidden to it,
 * as anti-affinity holds both ways.
 */
export function constraintsOf(
  spec: PlacementRules & { repelledBy: readonly string[] },
  serviceIds: ReadonlyMap<string, string>,
): PlacementConstraints {
  const idsOf = (names: readonly string[]) =>
    names.flatMap((name) => serviceIds.get(`${spec.tenantId}/${name}`) ?? []);
  const { placement } = spec;
  return {
    strategy: placement.strategy,
    spread: placement.spread,
    antiAffinity: [...new Set([...idsOf(placement.antiAffinity), ...spec.repelledBy])],
    affinity: idsOf(placement.affinity),
    hostLabels: placement.hostLabels,
    tolerations: placement.tolerations,
    pool: placement.pool,
  };
}
