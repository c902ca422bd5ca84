import type { OpenAPIHono } from "@hono/zod-openapi";
import type { ApiEnv } from "./api-env.ts";
import { securitySchemes } from "./security.ts";

export type OpenApiDocument = ReturnType<OpenAPIHono<ApiEnv>["getOpenAPI31Document"]>;

const tags = [
  { name: "services", description: "Services: the template, number and placement of sets." },
  { name: "rollouts", description: "Rollouts: gradual changes of the sets of a service." },
  { name: "sets", description: "Sets: the groups of containers that run a service." },
  { name: "sessions", description: "Sessions of users with containers, and their history." },
  { name: "volumes", description: "Volumes of sets, and trashed volumes." },
  { name: "hosts", description: "Hosts and host pools." },
  { name: "autoscaling", description: "Hooks, demands of alerts, and scaling decisions." },
  { name: "events", description: "The log of all changes." },
  { name: "registries", description: "Credentials for private registries of images." },
  { name: "networks", description: "Networks of tenants, and the addresses of their sets." },
  { name: "rules", description: "Firewall rules of networks." },
  { name: "access", description: "Tokens and tenants." },
  { name: "hooks", description: "The URLs to which alert senders deliver." },
  { name: "agent", description: "The agent protocol, version 1." },
  { name: "system", description: "Health and metrics of the process." },
];

/** The OpenAPI 3.1 document of the mounted routes. */
export function openApiDocument(app: OpenAPIHono<ApiEnv>, version: string): OpenApiDocument {
  const document = app.getOpenAPI31Document({
    openapi: "3.1.0",
    info: {
      title: "Berth",
      version,
      description:
        "Berth scales and schedules container sets on a fleet of Docker hosts. A caller that is not bound to a tenant names one with the header Berth-Tenant.",
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
