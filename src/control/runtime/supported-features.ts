import { AppError, type FieldError } from "../../contracts/common/app-error.ts";
import type { ControlSettings } from "./context.ts";
import type { ServiceGatewayPort } from "../../contracts/api/gateways.ts";
import type { AutoscaleSpec } from "../../contracts/api/services.ts";
import { fixedHostPort } from "../../contracts/api/template-ports.ts";
import type { SetTemplate } from "../../contracts/api/set-template.ts";

/**
 * Rejects features that the API describes but no agent supports yet, and capabilities and host
 * ports that the operator does not permit. Without this check their sets would fail later. Throws
 * unsupported, with pointers.
 */
export function assertSupported(
  settings: Pick<ControlSettings, "capabilitiesAllowed" | "fixedHostPorts">,
  parts: {
    template?: SetTemplate | undefined;
    autoscale?: AutoscaleSpec | null | undefined;
    gatewayPorts?: readonly ServiceGatewayPort[] | undefined;
  },
): void {
  const { capabilitiesAllowed } = settings;
  const errors: FieldError[] = [
    ...listRefusedHostPorts(settings, parts.template),
    ...listRefusedGatewayPorts(settings, parts.gatewayPorts),
  ];
  for (const [position, { options }] of (parts.template?.containers ?? []).entries()) {
    for (const [index, name] of (options.capAdd ?? []).entries()) {
      if (capabilitiesAllowed.includes(name)) continue;
      errors.push({
        pointer: `/template/containers/${position}/options/capAdd/${index}`,
        detail: `Capability ${name} is not permitted. Remove it from \`capAdd\`, or ask the operator to add it to \`BERTH_CAPABILITIES_ALLOWED\`.`,
      });
    }
  }
  if (parts.autoscale && parts.autoscale.metrics.length > 0) {
    errors.push({
      pointer: "/autoscale/metrics",
      detail:
        "Berth does not support scaling by metrics yet. Omit `metrics`, and use a hook for alerts.",
    });
  }
  if (errors.length === 0) return;
  throw new AppError("unsupported", {
    detail: errors.map((error) => error.detail).join(" "),
    errors,
  });
}

function isPermitted(
  { fixedHostPorts }: Pick<ControlSettings, "fixedHostPorts">,
  port: number,
): boolean {
  return fixedHostPorts.some(({ first, last }) => port >= first && port <= last);
}

function listRefusedGatewayPorts(
  settings: Pick<ControlSettings, "fixedHostPorts">,
  gatewayPorts: readonly ServiceGatewayPort[] = [],
): FieldError[] {
  return gatewayPorts.flatMap(({ gatewayPort }, position) =>
    isPermitted(settings, gatewayPort)
      ? []
      : {
          pointer: `/gatewayPorts/${position}/gatewayPort`,
          detail: `Port ${gatewayPort} of gateways is not permitted. Choose another one, or ask the operator to add it to \`BERTH_FIXED_HOST_PORTS\`.`,
        },
  );
}

function listRefusedHostPorts(
  settings: Pick<ControlSettings, "fixedHostPorts">,
  template: SetTemplate | undefined,
): FieldError[] {
  return (template?.ports ?? []).flatMap((port, position) => {
    const fixed = fixedHostPort(port);
    if (fixed === undefined) return [];
    if (isPermitted(settings, fixed)) return [];
    return {
      pointer: `/template/ports/${position}/publish/hostPort`,
      detail: `Host port ${fixed} is not permitted. Use \`publish: true\`, or ask the operator to add it to \`BERTH_FIXED_HOST_PORTS\`.`,
    };
  });
}
