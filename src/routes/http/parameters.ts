import { z } from "@hono/zod-openapi";
import { registryName } from "../../contracts/api/registries.ts";
import { idSchema, nameSchema } from "../../contracts/common/primitives.ts";

export const serviceParameters = z.object({ name: nameSchema });
export const rolloutParameters = z.object({
  name: nameSchema,
  number: z.coerce.number().int().min(1).max(2_147_483_647),
});
export const hookParameters = z.object({ name: nameSchema, hookId: idSchema("hook") });
export const setParameters = z.object({ setId: idSchema("set") });
export const hostParameters = z.object({ hostId: idSchema("host") });
export const tenantParameters = z.object({ name: nameSchema });
export const networkParameters = z.object({ name: nameSchema });
export const ruleParameters = z.object({ name: nameSchema });
export const registryParameters = z.object({ registry: registryName });
export const volumeParameters = z.object({ volumeId: idSchema("vol") });
