import { AppError, type FieldError } from "../../contracts/common/app-error.ts";
import type { AutoscaleSpec } from "../../contracts/api/services.ts";
import type { SetTemplate } from "../../contracts/api/set-template.ts";

/**
 * Refuses what the API describes but no agent can do yet, on the request and with the place in it, rather than letting
 * sets fail later. Throws AppError `unsupported`.
 */
export function assertSupported(parts: {
  template?: SetTemplate | undefined;
  autoscale?: AutoscaleSpec | null | undefined;
}): void {
  const errors: FieldError[] = [];
  const networks = parts.template?.networks ?? [];
  if (networks.length > 1 || networks.some((entry) => entry.network !== "default")) {
    errors.push({
      pointer: "/template/networks",
      detail: 'Only the network "default" is supported yet: leave networks out.',
    });
  }
  if (parts.autoscale && parts.autoscale.metrics.length > 0) {
    errors.push({
      pointer: "/autoscale/metrics",
      detail:
        "Scaling by metrics is not supported yet: leave metrics out and use a hook for alerts.",
    });
  }
  if (errors.length === 0) return;
  throw new AppError("unsupported", {
    detail: errors.map((error) => error.detail).join(" "),
    errors,
  });
}
