import type { OpenAPIHono } from "@hono/zod-openapi";
import type { ApiEnv } from "./api-env.ts";
import { securitySchemes } from "./security.ts";

export type OpenApiDocument = ReturnType<OpenAPIHono<ApiEnv>["getOpenAPI31Document"]>;

const tags = [
  { name: "services", description: "Services: templates of sets, how many, and where." },
  { name: "sets", description: "Sets: the running instances of services." },
  { name: "volumes", description: "Volumes of sets, and those in the trash." },
  { name: "hosts", description: "Hosts and the pools they form." },
  { name: "elasticity", description: "Hooks, the demands that alerts make, and decisions." },
  { name: "events", description: "What happened." },
  { name: "access", description: "Tokens and tenants." },
  { name: "hooks", description: "Where alert senders deliver to." },
  { name: "agent", description: "The protocol of host agents, version 1." },
  { name: "system", description: "Health and metrics of the process." },
];

/** The OpenAPI 3.1 description, generated from the routes that are mounted. */
export function openApiDocument(app: OpenAPIHono<ApiEnv>, version: string): OpenApiDocument {
  const document = app.getOpenAPI31Document({
    openapi: "3.1.0",
    info: {
      title: "Berth",
      version,
      description:
        "Scaling and scheduling of container sets on a fleet of Docker hosts. Callers that are not bound to a tenant name one with the header Berth-Tenant.",
      license: { name: "Apache-2.0" },
    },
    servers: [{ url: "/" }],
    tags,
  });
  return {
    ...document,
    components: { ...document.components, securitySchemes: { ...securitySchemes } },
  };
}
