import { sql } from "drizzle-orm";
import type { DesiredSet } from "../../../contracts/agent-protocol/desired-set.ts";
import { type SetTemplate, templateWithSize } from "../../../contracts/api/set-template.ts";
import type { Queryable } from "../../postgres/open-postgres.ts";
import { listSetAttachments } from "../networks/template-networks.ts";
import { selectHostPorts } from "../placement/host-ports.ts";
import { readByKey } from "../runtime/query.ts";
import type { SetSize } from "../services/resizes.ts";
import { unconfirmedCopySql } from "./unknown-sets.ts";
import { DOCKER_UNREACHABLE, VOLUME_HOST_LOST } from "./write-hosts.ts";

interface DesiredSetRow extends DesiredSet {
  template: SetTemplate;
  /** The host has not reported the stored state of the set: it was down, or could not know it. */
  isUnknown: boolean;
}

interface StoredDesiredSet extends Omit<DesiredSetRow, "hostPorts"> {
  size: SetSize;
  hasAddresses: boolean;
  hostPorts: DesiredSetRow["hostPorts"] | null;
}

/**
 * Lists the desired sets of a host that changed after a generation, at most `limit`, in the order
 * of their changes. A set that leaves the host has the desired state deleted.
 */
export async function listDesiredSets(
  q: Queryable,
  hostId: string,
  afterGeneration: number,
  limit: number,
): Promise<DesiredSetRow[]> {
  const rows = await readByKey<StoredDesiredSet>(
    q,
    sql`select s.desired = 'running' and o.phase is distinct from 'leaving'
            and (s.state = 'lost' or ${unconfirmedCopySql} or coalesce(s.reason->>'code' in (${DOCKER_UNREACHABLE}, ${VOLUME_HOST_LOST}), false)) as "isUnknown",
          s.id as "setId", t.name as tenant, v.name as service, s.revision, s.generation::float8 as generation,
          case when o.phase = 'leaving' then 'deleted' else s.desired end as desired,
          json_build_object('cpuMillis', coalesce(o.cpu_millis, s.cpu_millis), 'memoryBytes', coalesce(o.memory_bytes, s.memory_bytes),
            'volumeBytes', coalesce(o.volume_bytes, s.volume_bytes)) as size,
          s.restart_generation::float8 as "restartGeneration", s.restore_volume_id as "restoreVolumeId", r.template,
          exists (select 1 from addresses a where a.set_id = s.id and a.state = 'assigned') as "hasAddresses",
          ${selectHostPorts(sql`s.id`, sql`r.template->'ports'`)} as "hostPorts"
        from sets s join services v on v.id = s.service_id join tenants t on t.id = s.tenant_id
        join revisions r on r.service_id = s.service_id and r.number = s.revision
        left join operations o on o.set_id = s.id and (o.phase in ('applying', 'reverting') or (o.phase = 'leaving' and s.leaving))
        where s.host_id = ${hostId} and s.host_generation > ${afterGeneration}
        order by s.host_generation, s.id limit ${limit}`,
  );
  // Sets without addresses cost no second statement.
  const addressed = rows.flatMap(({ setId, hasAddresses }) => (hasAddresses ? setId : []));
  const attachments = await listSetAttachments(q, addressed);
  return rows.map(({ size, hasAddresses: _hasAddresses, hostPorts, ...row }) => ({
    ...row,
    template: templateWithSize(row.template, size),
    ...(hostPorts ? { hostPorts } : {}),
    ...(attachments.has(row.setId) ? { attachments: attachments.get(row.setId) } : {}),
  }));
}
