import { createRoute, z } from "@hono/zod-openapi";
import { fleetReadersOnly } from "../http/fleet-readers-only.ts";
import { commonProblems, type OperationHandler } from "../http/operation.ts";
import { fleetReaders } from "../http/security.ts";

export const metricsRoute = createRoute({
  method: "get",
  path: "/metrics",
  operationId: "getMetrics",
  tags: ["system"],
  summary: "Metrics of this process, in Prometheus' text format",
  security: fleetReaders,
  responses: {
    200: { description: "Metrics.", content: { "text/plain": { schema: z.string() } } },
    ...commonProblems,
  },
});

/** Which library keeps the metrics is the process's choice; on Workers there is none. */
export function metricsHandler(
  renderMetrics: () => Promise<string>,
): OperationHandler<typeof metricsRoute> {
  return () => async (c) => {
    fleetReadersOnly(c);
    return c.text(await renderMetrics(), 200, { "Content-Type": "text/plain; version=0.0.4" });
  };
}
