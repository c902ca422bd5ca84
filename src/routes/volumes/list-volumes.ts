import { createRoute } from "@hono/zod-openapi";
import { pageOf } from "../../contracts/common/primitives.ts";
import { listVolumesQuery, volumeSchema } from "../../contracts/api/volumes.ts";
import { listVolumes } from "../../control/volumes/list-volumes.ts";
import { commonProblems, jsonResponse, type OperationHandler } from "../http/operation.ts";
import { readers } from "../http/security.ts";

export const listVolumesRoute = createRoute({
  method: "get",
  path: "/v1/volumes",
  operationId: "listVolumes",
  tags: ["volumes"],
  summary: "List volumes",
  description: "Lists live and trashed volumes; `state=trashed` lists the trash.",
  security: readers,
  request: { query: listVolumesQuery },
  responses: { 200: jsonResponse(pageOf(volumeSchema), "One page of volumes."), ...commonProblems },
});

export const listVolumesHandler: OperationHandler<typeof listVolumesRoute> = (ctx) => async (c) =>
  c.json(await listVolumes(ctx, c.get("scope"), c.req.valid("query")), 200);
