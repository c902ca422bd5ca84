import { createRoute } from "@hono/zod-openapi";
import { setSchema } from "../../contracts/api/sets.ts";
import { restoreVolume } from "../../control/volumes/restore-volume.ts";
import {
  commonProblems,
  idempotentHeaders,
  jsonResponse,
  type OperationHandler,
} from "../http/operation.ts";
import { volumeParameters } from "../http/parameters.ts";
import { problems } from "../http/problem.ts";
import { writers } from "../http/security.ts";

export const restoreVolumeRoute = createRoute({
  method: "post",
  path: "/v1/volumes/{volumeId}/restore",
  operationId: "restoreVolume",
  tags: ["volumes"],
  summary: "Start a set with a trashed volume",
  description:
    "Adds a set of the volume's service on the volume's host. The replicas of the service increase by one.",
  security: writers,
  request: { params: volumeParameters, headers: idempotentHeaders },
  responses: {
    202: jsonResponse(setSchema, "The new set, which starts on the volume's host."),
    ...commonProblems,
    ...problems(
      "grant-missing",
      "state-conflict",
      "quota-exceeded",
      "idempotency-conflict",
      "idempotency-in-progress",
    ),
  },
});

export const restoreVolumeHandler: OperationHandler<typeof restoreVolumeRoute> =
  (ctx) => async (c) =>
    c.json(await restoreVolume(ctx, c.get("scope"), c.req.valid("param").volumeId), 202);
