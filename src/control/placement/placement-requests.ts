import {
  listFeaturesOf,
  listNeededFeatures,
} from "../../contracts/agent-protocol/agent-features.ts";
import {
  addOverhead,
  computeOverhead,
  type ContainerOverhead,
  overheadOf,
} from "../../contracts/api/container-overhead.ts";
import { DEFAULT_NETWORK } from "../../contracts/api/networks.ts";
import type { PlacementSpec } from "../../contracts/api/placement-spec.ts";
import type { SetTemplate } from "../../contracts/api/set-template.ts";
import {
  fixedHostPort,
  listPublished,
  type TemplatePort,
} from "../../contracts/api/template-ports.ts";
import type { Queryable } from "../../db/postgres/open-postgres.ts";
import {
  type TemplateNetwork,
  listTemplateNetworks,
} from "../../db/queries/networks/template-networks.ts";
import type { DueSets, PlacementSpecRow } from "../../db/queries/placement/due-sets.ts";
import { listTakenHostPorts, type TakenHostPort } from "../../db/queries/placement/host-ports.ts";
import {
  type DepartingSets,
  listDepartingSets,
  listRepulsions,
  listServiceIds,
} from "../../db/queries/placement/placements.ts";
import type { ServiceRow } from "../../db/queries/services/write-services.ts";
import { assert } from "../../lib/assert.ts";
import type {
  HostPortDemand,
  PlacementConstraints,
  PlacementRequest,
  SubnetSupply,
} from "../../scheduler/placement/model.ts";

/** A request for the planner, whose amounts contain the overhead. */
export interface PendingRequest extends PlacementRequest {
  overhead: ContainerOverhead;
  templateNetworks: PlacementSpecRow["templateNetworks"];
  publishedPorts: readonly TemplatePort[];
}

/**
 * Builds the planner's requests for due sets. Sets of one revision share one constraints object.
 */
export async function buildPlacementRequests(
  q: Queryable,
  { sets, specs }: DueSets,
): Promise<PendingRequest[]> {
  const serviceIds = await readNamedServices(q, specs);
  const repellable = specs.filter(({ mayBeRepelled }) => mayBeRepelled);
  const names = new Map(repellable.map((spec) => [spec.serviceId, spec]));
  const repulsions = await listRepulsions(
    q,
    [...names.values()].map(({ tenantId, name }) => ({ tenantId, name })),
  );
  const repelledBy = new Map(
    repulsions.map((row) => [`${row.tenantId}/${row.name}`, row.byServiceIds]),
  );
  const byRevision = new Map(
    specs.map((spec) => {
      const rules = { ...spec, repelledBy: repelledBy.get(`${spec.tenantId}/${spec.name}`) ?? [] };
      return [
        revisionKey(spec),
        {
          constraints: toConstraints(rules, serviceIds, listFeaturesOf(spec)),
          images: spec.images,
          overhead: computeOverhead(spec.logging),
          templateNetworks: spec.templateNetworks,
          publishedPorts: listPublished(spec.ports),
        },
      ];
    }),
  );
  const replacedHostIds = new Map(
    specs.flatMap(({ departing }) =>
      departing.map(({ replacementId, hostId }) => [replacementId, hostId] as const),
    ),
  );
  return sets.flatMap((set) => {
    const spec = byRevision.get(revisionKey(set));
    if (!spec) return []; // the retention has purged its service
    return {
      setId: set.id,
      serviceId: set.serviceId,
      resources: addOverhead(set, spec.overhead),
      overhead: spec.overhead,
      templateNetworks: spec.templateNetworks,
      publishedPorts: spec.publishedPorts,
      priority: set.priority,
      constraints: withoutSubnets(spec.constraints, set.ownSubnetIds),
      images: spec.images,
      avoidHostIds: set.avoidHostIds,
      replacesOnHostId: replacedHostIds.get(set.id),
    };
  });
}

/** A set of a service that does not exist yet, or that moves. */
interface WantedSet {
  setId: string;
  template: SetTemplate;
  avoidHostIds: readonly string[];
  /** The host that the set leaves. */
  replacesOnHostId?: string;
  /** The subnets of which the set has an address, which it keeps when it moves. */
  ownSubnetIds?: readonly string[] | undefined;
}

/** Builds the planner's requests for new or moving sets of one service. */
export async function buildServiceRequests(
  q: Queryable,
  service: Pick<ServiceRow, "id" | "tenantId" | "name" | "placement" | "priority">,
  sets: readonly WantedSet[],
): Promise<PlacementRequest[]> {
  const { id: serviceId, tenantId, name: ownName, placement, priority } = service;
  const names = [...placement.antiAffinity, ...placement.affinity];
  const found = await listServiceIds(
    q,
    names.map((name) => ({ tenantId, name })),
  );
  const [repulsion] = await listRepulsions(q, [{ tenantId, name: ownName }]);
  const repelledBy = repulsion?.byServiceIds ?? [];
  const ids = new Map(found.map(({ name, id }) => [`${tenantId}/${name}`, id]));
  ids.set(`${tenantId}/${ownName}`, serviceId); // the rules may name the service before it exists
  const departing = placement.spread.length === 0 ? [] : await listDepartingSets(q, serviceId);
  // Sets of one template share the object, because the planner caches by it.
  const byTemplate = new Map<SetTemplate, PlacementConstraints>();
  const byNetworks = new Map<string, TemplateNetwork[] | null>();
  for (const { template } of sets) {
    if (byTemplate.has(template)) continue;
    const key = JSON.stringify(template.networks);
    const known = byNetworks.get(key); // null without a networked host
    const templateNetworks =
      known === undefined
        ? await listTemplateNetworks(q, { tenantId, serviceId }, template.networks)
        : known;
    byNetworks.set(key, templateNetworks);
    const { ports } = template;
    const takenHostPorts = await listTakenHostPorts(q, listFixedHostPorts(ports));
    const rules = {
      tenantId,
      placement,
      repelledBy,
      departing,
      templateNetworks,
      ports,
      takenHostPorts,
    };
    byTemplate.set(template, toConstraints(rules, ids, listNeededFeatures(template)));
  }
  const constraintsOf = ({ template, ownSubnetIds }: WantedSet): PlacementConstraints => {
    const known = byTemplate.get(template);
    assert(known, "each template has constraints");
    return withoutSubnets(known, ownSubnetIds);
  };
  return sets.map((set) => {
    const { setId, template, avoidHostIds, replacesOnHostId } = set;
    return {
      setId,
      serviceId,
      resources: addOverhead(
        { ...template, volumeBytes: template.volume?.sizeBytes ?? 0 },
        overheadOf(template),
      ),
      priority,
      constraints: constraintsOf(set),
      images: template.containers.map(({ image }) => image),
      avoidHostIds,
      replacesOnHostId,
    };
  });
}

function revisionKey(of: { serviceId: string; revision: number }): string {
  return `${of.serviceId}/${of.revision}`;
}

/** Placement rules, which name services of the same tenant. */
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
 * Replaces service names by ids. A name that no service has constrains nothing. Anti-affinity holds
 * both ways, so the rules of other services against this one apply too.
 */
export function toConstraints(
  spec: PlacementRules & {
    repelledBy: readonly string[];
    departing: readonly DepartingSets[];
    templateNetworks: readonly TemplateNetwork[] | null;
    ports: SetTemplate["ports"] | null;
    takenHostPorts: readonly TakenHostPort[] | null;
  },
  serviceIds: ReadonlyMap<string, string>,
  features: readonly string[],
): PlacementConstraints {
  const toIds = (names: readonly string[]) =>
    names.flatMap((name) => serviceIds.get(`${spec.tenantId}/${name}`) ?? []);
  const { placement } = spec;
  return {
    strategy: placement.strategy,
    spread: placement.spread,
    antiAffinity: [...new Set([...toIds(placement.antiAffinity), ...spec.repelledBy])],
    affinity: toIds(placement.affinity),
    hostLabels: placement.hostLabels,
    tolerations: placement.tolerations,
    pool: placement.pool,
    features,
    subnets: listSubnets(spec.templateNetworks ?? []),
    hostPorts: listHostPorts(spec.ports, spec.takenHostPorts ?? []),
    addressFault: spec.templateNetworks?.find(({ fault }) => fault !== null)?.fault ?? undefined,
    uncountedSets: sumUncountedSets(spec.departing),
  };
}

/**
 * The subnets of all networks of a template. A network that the tenant lacks is like one without
 * addresses, except the default network, which the first placement creates.
 */
function listSubnets(templateNetworks: readonly TemplateNetwork[]): SubnetSupply[] {
  return templateNetworks.flatMap(({ network, networkId, subnets }) => {
    // A static address is not one of the free ones.
    if (networkId !== null) return subnets.filter(({ address }) => address === null);
    return network === DEFAULT_NETWORK ? [] : { id: network, free: 0 };
  });
}

function listHostPorts(
  ports: SetTemplate["ports"] | null,
  taken: readonly TakenHostPort[],
): HostPortDemand[] {
  const takenOn = new Map(
    taken.map(({ protocol, port, hostIds }) => [`${protocol}/${port}`, hostIds]),
  );
  return listFixedHostPorts(ports).map(({ protocol, port }) => {
    const key = `${protocol}/${port}`;
    return { key, takenOn: takenOn.get(key) ?? [] };
  });
}

function listFixedHostPorts(ports: SetTemplate["ports"] | null) {
  return listPublished(ports).flatMap((published) => {
    const port = fixedHostPort(published);
    return port === undefined ? [] : { protocol: published.protocol, port };
  });
}

/** The constraints of a set that already has an address of these subnets. */
function withoutSubnets(
  constraints: PlacementConstraints,
  ownSubnetIds: readonly string[] = [],
): PlacementConstraints {
  if (ownSubnetIds.length === 0) return constraints;
  const subnets = constraints.subnets.filter(({ id }) => !ownSubnetIds.includes(id));
  // Its static address is its own.
  const isOwn = constraints.addressFault === "address-taken";
  return { ...constraints, subnets, ...(isOwn ? { addressFault: undefined } : {}) };
}

function sumUncountedSets(departing: readonly DepartingSets[]): ReadonlyMap<string, number> {
  const byHostId = new Map<string, number>();
  for (const { hostId, sets, isCounted } of departing)
    if (!isCounted) byHostId.set(hostId, (byHostId.get(hostId) ?? 0) + sets);
  return byHostId;
}
