import { OpenAPIHono } from "@hono/zod-openapi";
import type { ControlContext } from "../control/runtime/context.ts";
import { translateError } from "../control/runtime/errors.ts";
import { mountAccess } from "./tenancy/routes.ts";
import { mountAgent } from "./agent/routes.ts";
import type { ApiEnv } from "./http/api-env.ts";
import { mountAutoscaling } from "./autoscaling/routes.ts";
import { mountEvents } from "./events/routes.ts";
import { mountHooks } from "./autoscaling/hook-routes.ts";
import { mountHosts } from "./hosts/routes.ts";
import { mountNetworks } from "./networks/routes.ts";
import { type Api, createApi } from "./http/operation.ts";
import { mountPlan } from "./dry-run/routes.ts";
import { toProblemResponse } from "./http/problem.ts";
import { type RequestFacts, requestContext } from "./http/request-context.ts";
import { mountRules } from "./rules/routes.ts";
import { mountRollouts } from "./rollouts/routes.ts";
import { mountSessions } from "./sessions/routes.ts";
import { mountServices } from "./services/routes.ts";
import { mountSets } from "./sets/routes.ts";
import type { PageFiles } from "./system/api-page.ts";
import { mountDocuments, mountFallback } from "./system/documents.ts";
import { mountSystem } from "./system/routes.ts";
import { mountVolumes } from "./volumes/routes.ts";
import { refuseOnEdge } from "./system/refuse-on-edge.ts";
import { validationHook } from "./http/validation-hook.ts";

export interface AppOptions {
  /** The version of Berth, for the OpenAPI document. */
  version: string;
  /** Renders the response of /metrics. If it is undefined, the path does not exist. */
  renderMetrics?: () => Promise<string>;
  /** The files of the API page at /docs. If they are undefined, the page does not exist. */
  pageFiles?: PageFiles;
  /** True on Workers: host agents and dry runs are refused with `wrong-endpoint`. */
  isEdge?: boolean;
  /** Aborts at the shutdown of the process: streams end. */
  streamsEnd?: AbortSignal;
  /** Called once for each request, when its response begins. */
  observeRequest?: (facts: RequestFacts) => void;
}

/**
 * Creates the HTTP API on the given context. It runs wherever Hono runs: it opens no connections,
 * and its only state is a cache of tenant ids. On Workers each request creates its own app and its
 * own connections.
 */
export function createApp(ctx: ControlContext, options: AppOptions): OpenAPIHono<ApiEnv> {
  return createMountedApi(ctx, options).app;
}

/** Creates the app with the list of its operations, for tests that cover all of them. */
export function createMountedApi(ctx: ControlContext, options: AppOptions): Api {
  const app = new OpenAPIHono<ApiEnv>({ defaultHook: validationHook });
  app.use("*", requestContext(ctx.log, options.observeRequest));
  app.onError((error, c) => toProblemResponse(c, translateError(error)));
  const api = createApi(app, ctx, options.streamsEnd);
  mountServices(api);
  mountRollouts(api);
  mountSets(api);
  mountVolumes(api);
  mountHosts(api);
  mountAutoscaling(api);
  mountHooks(api);
  mountEvents(api);
  mountAccess(api);
  mountNetworks(api);
  mountRules(api);
  if (options.isEdge) {
    refuseOnEdge(app);
  } else {
    mountPlan(api);
    mountSessions(api);
    mountAgent(api);
  }
  mountSystem(api, options.renderMetrics);
  mountDocuments(api, options);
  mountFallback(api);
  return api;
}
