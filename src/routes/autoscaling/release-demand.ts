import { createRoute, z } from "@hono/zod-openapi";
import { demandSchema } from "../../contracts/api/autoscaling.ts";
import { idSchema, nameSchema } from "../../contracts/common/primitives.ts";
import { releaseDemand } from "../../control/autoscaling/release-demand.ts";
import { getTenantId } from "../http/api-env.ts";
import { commonProblems, jsonResponse, type OperationHandler } from "../http/operation.ts";
import { writers } from "../http/security.ts";

export const releaseDemandRoute = createRoute({
  method: "delete",
  path: "/v1/services/{name}/demands/{demandId}",
  operationId: "releaseDemand",
  tags: ["autoscaling"],
  summary: "Release a demand immediately",
  description:
    "For alerts that never resolve. The alert raises a new demand only after it has resolved and fired again.",
  security: writers,
  request: { params: z.object({ name: nameSchema, demandId: idSchema("dmd") }) },
  responses: { 200: jsonResponse(demandSchema, "The released demand."), ...commonProblems },
});

export const releaseDemandHandler: OperationHandler<typeof releaseDemandRoute> =
  (ctx) => async (c) => {
    const { name, demandId } = c.req.valid("param");
    return c.json(await releaseDemand(ctx, getTenantId(c), name, demandId), 200);
  };
