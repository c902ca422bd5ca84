import type { Caller } from "../../contracts/api/caller.ts";
import type { Service } from "../../contracts/api/services.ts";

const REDACTED = "[redacted]";

/**
 * Replaces the values of environment variables for callers with the role `read`: they often contain
 * passwords. The names stay visible.
 */
export function redactService(service: Service, { role }: Pick<Caller, "role">): Service {
  if (role !== "read") return service;
  const containers = service.template.containers.map((container) => {
    const names = Object.keys(container.options.env);
    const env = Object.fromEntries(names.map((name) => [name, REDACTED]));
    return { ...container, options: { ...container.options, env } };
  });
  return { ...service, template: { ...service.template, containers } };
}
