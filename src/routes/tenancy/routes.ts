import { type Api, mount } from "../http/operation.ts";
import { createTenantHandler, createTenantRoute } from "./create-tenant.ts";
import { createTokenHandler, createTokenRoute } from "./create-token.ts";
import { deleteRegistryHandler, deleteRegistryRoute } from "./delete-registry.ts";
import { getTenantHandler, getTenantRoute } from "./get-tenant.ts";
import { listRegistriesHandler, listRegistriesRoute } from "./list-registries.ts";
import { listTenantsHandler, listTenantsRoute } from "./list-tenants.ts";
import { listTokensHandler, listTokensRoute } from "./list-tokens.ts";
import { patchTenantHandler, patchTenantRoute } from "./patch-tenant.ts";
import { putRegistryHandler, putRegistryRoute } from "./put-registry.ts";
import { revokeTokenHandler, revokeTokenRoute } from "./revoke-token.ts";
import { rotateTokenHandler, rotateTokenRoute } from "./rotate-token.ts";

export function mountAccess(api: Api): void {
  mount(api, createTokenRoute, createTokenHandler);
  mount(api, listTokensRoute, listTokensHandler);
  mount(api, rotateTokenRoute, rotateTokenHandler);
  mount(api, revokeTokenRoute, revokeTokenHandler);
  mount(api, createTenantRoute, createTenantHandler);
  mount(api, listTenantsRoute, listTenantsHandler);
  mount(api, getTenantRoute, getTenantHandler);
  mount(api, patchTenantRoute, patchTenantHandler);
  mount(api, putRegistryRoute, putRegistryHandler);
  mount(api, listRegistriesRoute, listRegistriesHandler);
  mount(api, deleteRegistryRoute, deleteRegistryHandler);
}
