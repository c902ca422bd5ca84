import { type Api, mount } from "../http/operation.ts";
import { livenessHandler, livenessRoute, readinessHandler, readinessRoute } from "./health.ts";
import { metricsHandler, metricsRoute } from "./metrics.ts";

/** Mounts health checks, and /metrics if the process renders metrics. */
export function mountSystem(api: Api, renderMetrics: (() => Promise<string>) | undefined): void {
  mount(api, livenessRoute, livenessHandler);
  mount(api, readinessRoute, readinessHandler);
  if (renderMetrics) mount(api, metricsRoute, metricsHandler(renderMetrics));
}
