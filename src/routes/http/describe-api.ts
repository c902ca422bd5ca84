import { silentLog } from "../../lib/log.ts";
import type { ControlContext } from "../../control/runtime/context.ts";
import { createMountedApi } from "../app.ts";
import { type OpenApiDocument, openApiDocument } from "./openapi-document.ts";
import type { Api } from "./operation.ts";

/** Mounts the API without a database, for its description. Requests to it fail. */
export function mountApiForDocs(version: string): Api {
  const emptyContext = { log: silentLog } as ControlContext; // mounting only passes it on
  return createMountedApi(emptyContext, { version, renderMetrics: async () => "" });
}

export function describeApi(version: string): OpenApiDocument {
  return openApiDocument(mountApiForDocs(version).app, version);
}
