import { silentLog } from "../../lib/log.ts";
import type { ControlContext } from "../../control/runtime/context.ts";
import { createMountedApi } from "../app.ts";
import { type OpenApiDocument, openApiDocument } from "./openapi-document.ts";
import type { Api } from "./operation.ts";

/**
 * The API with nothing behind it: to describe it, not to call it. Mounting only passes the context on, and nothing
 * of it is used before a request comes.
 */
export function mountUncallableApi(version: string): Api {
  const nothingBehind = { log: silentLog } as ControlContext;
  return createMountedApi(nothingBehind, { version, renderMetrics: async () => "" });
}

export function describeApi(version: string): OpenApiDocument {
  return openApiDocument(mountUncallableApi(version).app, version);
}
