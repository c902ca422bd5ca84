import { createHash } from "node:crypto";
import { type EndpointList, ENDPOINTS_MAX } from "../../contracts/api/endpoints.ts";
import { notFound } from "../../contracts/common/app-error.ts";
import { findEndpoints, type ServiceEndpoints } from "../../db/queries/services/endpoints.ts";
import type { ControlContext } from "../runtime/context.ts";

const VERSION_CHARS = 16;

/** Lists the sets of a service that accept connections. Throws not-found. */
export async function listEndpoints(
  ctx: ControlContext,
  tenantId: string,
  name: string,
): Promise<EndpointList> {
  const found = await findEndpoints(ctx.db, tenantId, name, ENDPOINTS_MAX);
  if (!found) throw notFound("service");
  return toEndpointList(name, found);
}

export function toEndpointList(
  service: string,
  { total, endpoints, gateways }: Omit<ServiceEndpoints, "serviceId">,
): EndpointList {
  const content = JSON.stringify([total, endpoints, gateways]);
  const version = createHash("sha256").update(content).digest("hex").slice(0, VERSION_CHARS);
  return { service, version, total, endpoints, gateways };
}
