import type { AdoptVolumes, Host } from "../../contracts/api/hosts.ts";
import { AppError, notFound } from "../../contracts/common/app-error.ts";
import { lockAgentRecord } from "../../db/queries/hosts/agent-records.ts";
import { bindDeletedHost } from "../../db/queries/hosts/remove-hosts.ts";
import type { ControlContext } from "../runtime/context.ts";
import { unitOfWork } from "../runtime/unit-of-work.ts";
import { getHost } from "./get-host.ts";

/**
 * Orders a host to adopt the volumes of a deleted host on its machine, whose id has changed since.
 * It records that the deleted host was this machine, so the next full answer names that host to the
 * agent. Then the agent removes the containers of the deleted host, and takes its volumes to the
 * trash. A repetition changes nothing.
 *
 * The agent must have reported these volumes, so that an id of another machine has no effect.
 * Throws not-found, invalid-request if `confirm` is another id, and state-conflict.
 */
export async function adoptVolumes(
  ctx: ControlContext,
  hostId: string,
  { deletedHostId, confirm }: AdoptVolumes,
): Promise<Host> {
  if (confirm !== deletedHostId) {
    throw new AppError("invalid-request", {
      detail: `This removes the containers of the deleted host on this machine. Repeat with \`confirm=${deletedHostId}\`.`,
      errors: [{ pointer: "/confirm", detail: `expected ${deletedHostId}` }],
    });
  }
  const { capabilities } = await getHost(ctx, hostId);
  const found = capabilities?.otherHostVolumes?.find((one) => one.hostId === deletedHostId);
  if (!found) throw conflict("The agent has reported no volume of that host on its machine.");
  await unitOfWork(ctx, async (tx) => {
    const locked = await lockAgentRecord(tx, hostId);
    if (!locked) throw notFound("host");
    const { machineId = null } = locked.record ?? {};
    if (machineId === null) throw conflict("The agent has reported no machine id.");
    if (!(await bindDeletedHost(tx, deletedHostId, machineId)))
      throw conflict("Berth has not deleted that host, or has forgotten the deletion.");
    const data = { deletedHostId, volumes: found.volumes };
    tx.emit({ kind: "host-volumes-adopted", data, hostId });
  });
  return getHost(ctx, hostId);
}

function conflict(detail: string): AppError {
  return new AppError("state-conflict", { detail });
}
