import { AppError, type FieldError } from "../../contracts/common/app-error.ts";
import { checkContainers, utf8Bytes } from "../../contracts/api/check-template.ts";
import type { ContainerChange } from "../../contracts/api/rollouts.ts";
import { type SetTemplate, TEMPLATE_BYTES_MAX } from "../../contracts/api/set-template.ts";

/**
 * The template with changes of some of its containers, by their names. Throws invalid-request for
 * an unknown container, and for a result that no request for a template could have.
 */
export function changeTemplate(
  template: SetTemplate,
  changes: Readonly<Record<string, ContainerChange>>,
): SetTemplate {
  const errors: FieldError[] = [];
  const names = new Set(template.containers.map(({ name }) => name));
  for (const name of Object.keys(changes)) {
    if (names.has(name)) continue;
    const detail = `expected one of ${[...names].join(", ")}`;
    errors.push({ pointer: `/containers/${name}`, detail });
  }
  const containers = template.containers.map((container) => {
    const { image, options = {} } = changes[container.name] ?? {};
    return {
      ...container,
      image: image ?? container.image,
      options: { ...container.options, ...withoutUndefined(options) },
    };
  });
  checkContainers(
    containers.map(({ name, options }) => ({
      name,
      memoryPercent: options.memoryPercent,
      serving: options.serving,
    })),
    (path, message) => errors.push({ pointer: `/${path.join("/")}`, detail: message }),
  );
  const changed = { ...template, containers };
  const bytes = utf8Bytes(JSON.stringify(changed));
  if (bytes > TEMPLATE_BYTES_MAX) {
    const detail = `the template would take ${bytes} bytes as JSON, expected at most ${TEMPLATE_BYTES_MAX}`;
    errors.push({ pointer: "/containers", detail });
  }
  const [first] = errors;
  if (first) throw new AppError("invalid-request", { detail: first.detail, errors });
  return changed;
}

/** A member that is undefined is absent: it stays unchanged. */
function withoutUndefined<T extends object>(value: T): { [K in keyof T]?: NonNullable<T[K]> } {
  const entries = Object.entries(value).filter(([, member]) => member !== undefined);
  return Object.fromEntries(entries) as { [K in keyof T]?: NonNullable<T[K]> };
}
