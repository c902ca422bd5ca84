import type { OpenAPIHono } from "@hono/zod-openapi";
import { AppError } from "../../contracts/common/app-error.ts";
import type { ApiEnv } from "../http/api-env.ts";

const containerPath = "/v1/sets/:setId/containers/:container";
const refusedPaths = [
  "/agent/v1/*",
  "/v1/plan",
  `${containerPath}/exec`,
  `${containerPath}/attach`,
];

/**
 * Refuses what a Worker has no resources for. Each host agent would hold two connections for each
 * of its polls. A dry run reads the whole fleet into the memory of one request. A session has a
 * connection for hours.
 */
export function refuseOnEdge(app: OpenAPIHono<ApiEnv>): void {
  for (const path of refusedPaths) {
    app.all(path, () => {
      throw new AppError("wrong-endpoint", {
        detail: "The API on Workers does not serve this path. Send the request to the API on Node.",
      });
    });
  }
}
