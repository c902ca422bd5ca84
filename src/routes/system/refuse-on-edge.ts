import type { OpenAPIHono } from "@hono/zod-openapi";
import { AppError } from "../../contracts/common/app-error.ts";
import type { ApiEnv } from "../http/api-env.ts";

/**
 * Refuses what a Worker has no resources for. Each host agent would hold two connections for each
 * of its polls. A dry run reads the whole fleet into the memory of one request.
 */
export function refuseOnEdge(app: OpenAPIHono<ApiEnv>): void {
  for (const path of ["/agent/v1/*", "/v1/plan"]) {
    app.all(path, () => {
      throw new AppError("wrong-endpoint", {
        detail: "The API on Workers does not serve this path. Send the request to the API on Node.",
      });
    });
  }
}
