import { checkGatewayPorts } from "../../contracts/api/gateways.ts";
import { AppError, type FieldError } from "../../contracts/common/app-error.ts";
import type { Queryable } from "../../db/postgres/open-postgres.ts";
import { findTemplate, type ServiceRow } from "../../db/queries/services/write-services.ts";

/** The ports of gateways name ports of the target revision. Throws invalid-request. */
export async function assertGatewayPorts(
  q: Queryable,
  { id, gatewayPorts, targetRevision }: ServiceRow,
): Promise<void> {
  if (gatewayPorts.length === 0) return;
  const template = await findTemplate(q, id, targetRevision);
  const errors: FieldError[] = [];
  checkGatewayPorts(gatewayPorts, template?.ports ?? [], (path, detail) =>
    errors.push({ pointer: `/${path.join("/")}`, detail }),
  );
  if (errors.length > 0)
    throw new AppError("invalid-request", {
      detail: errors.map(({ detail }) => detail).join(" "),
      errors,
    });
}
