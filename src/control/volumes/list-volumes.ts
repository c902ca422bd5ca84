import type { Volume, VolumeState } from "../../contracts/api/volumes.ts";
import { listVolumes as listVolumeRows, type VolumeRow } from "../../db/queries/volumes/volumes.ts";
import type { ControlContext } from "../runtime/context.ts";
import { type Page, type PageRequest, pageStart, toPage } from "../runtime/paging.ts";

export interface ListVolumes extends PageRequest {
  service?: string | undefined;
  host?: string | undefined;
  state?: VolumeState | undefined;
}

export async function listVolumes(
  ctx: ControlContext,
  scope: string | null,
  query: ListVolumes,
): Promise<Page<Volume>> {
  const filter = { service: query.service, host: query.host, state: query.state };
  const rows = await listVolumeRows(ctx.db, scope, filter, pageStart(query), query.limit + 1);
  return toPage(rows.map(withoutTenantId), query.limit, ({ id }) => id);
}

export function withoutTenantId({ tenantId: _tenantId, ...volume }: VolumeRow): Volume {
  return volume;
}
