import { createRoute } from "@hono/zod-openapi";
import { patchServiceBody, serviceChangeSchema } from "../../contracts/api/services.ts";
import { patchService } from "../../control/services/patch-service.ts";
import { getCaller, getTenantId } from "../http/api-env.ts";
import { toEtag, ifMatchHeaders, parseRequiredIfMatch } from "../http/if-match.ts";
import { bodyProblems, jsonBody, jsonResponse, type OperationHandler } from "../http/operation.ts";
import { serviceParameters } from "../http/parameters.ts";
import { problems } from "../http/problem.ts";
import { writers } from "../http/security.ts";

export const patchServiceRoute = createRoute({
  method: "patch",
  path: "/v1/services/{name}",
  operationId: "patchService",
  tags: ["services"],
  summary: "Change the template or a policy of a service",
  description:
    "Omitted members stay unchanged. Requires If-Match with the generation that the caller has read. The response lists the effects.",
  security: writers,
  request: {
    params: serviceParameters,
    headers: ifMatchHeaders,
    body: jsonBody(patchServiceBody),
  },
  responses: {
    200: jsonResponse(serviceChangeSchema, "The service, and the effects."),
    ...bodyProblems,
    ...problems(
      "invalid-request",
      "unsupported",
      "quota-exceeded",
      "grant-missing",
      "generation-mismatch",
      "generation-required",
      "state-conflict",
    ),
  },
});

export const patchServiceHandler: OperationHandler<typeof patchServiceRoute> =
  (ctx) => async (c) => {
    const generation = parseRequiredIfMatch(c.req.valid("header")["if-match"]);
    const { name } = c.req.valid("param");
    const patch = c.req.valid("json");
    const { tokenId } = getCaller(c);
    const change = await patchService(ctx, getTenantId(c), name, generation, patch, tokenId);
    return c.json(change, 200, { ETag: toEtag(change.service) });
  };
