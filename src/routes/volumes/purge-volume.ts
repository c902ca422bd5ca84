import { createRoute } from "@hono/zod-openapi";
import { purgeVolumeBody, volumeSchema } from "../../contracts/api/volumes.ts";
import { purgeVolume } from "../../control/volumes/purge-volume.ts";
import {
  bodyProblems,
  idempotentHeaders,
  jsonBody,
  jsonResponse,
  type OperationHandler,
} from "../http/operation.ts";
import { volumeParameters } from "../http/parameters.ts";
import { problems } from "../http/problem.ts";
import { writers } from "../http/security.ts";

export const purgeVolumeRoute = createRoute({
  method: "post",
  path: "/v1/volumes/{volumeId}/purge",
  operationId: "purgeVolume",
  tags: ["volumes"],
  summary: "Purge a trashed volume now",
  description:
    "The host destroys the volume and its data after its next sync. This cannot be undone, so the body repeats the id.",
  security: writers,
  request: {
    params: volumeParameters,
    headers: idempotentHeaders,
    body: jsonBody(purgeVolumeBody),
  },
  responses: {
    202: jsonResponse(volumeSchema, "The volume, which its host purges."),
    ...bodyProblems,
    ...problems("state-conflict", "idempotency-conflict", "idempotency-in-progress"),
  },
});

export const purgeVolumeHandler: OperationHandler<typeof purgeVolumeRoute> = (ctx) => async (c) => {
  const { volumeId } = c.req.valid("param");
  return c.json(await purgeVolume(ctx, c.get("scope"), volumeId, c.req.valid("json")), 202);
};
