import { createRoute, z } from "@hono/zod-openapi";
import { fleetReadersOnly } from "../http/fleet-readers-only.ts";
import { commonProblems, type OperationHandler } from "../http/operation.ts";
import { fleetReaders } from "../http/security.ts";

export const metricsRoute = createRoute({
  method: "get",
  path: "/metrics",
  operationId: "getMetrics",
  tags: ["system"],
  summary: "Read the metrics of this process in the Prometheus text format",
  security: fleetReaders,
  responses: {
    200: { description: "The metrics.", content: { "text/plain": { schema: z.string() } } },
    ...commonProblems,
  },
});

/** The process chooses the metrics library; on Workers there is none. */
export function metricsHandler(
  renderMetrics: () => Promise<string>,
): OperationHandler<typeof metricsRoute> {
  return () => async (c) => {
    fleetReadersOnly(c);
    return c.text(await renderMetrics(), 200, { "Content-Type": "text/plain; version=0.0.4" });
  };
}
