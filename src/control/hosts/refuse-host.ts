import { AppError } from "../../contracts/common/app-error.ts";
import { isHostDeleted } from "../../db/queries/hosts/remove-hosts.ts";
import { hashSecret } from "../../lib/token-hash.ts";
import type { ControlContext } from "../runtime/context.ts";

/**
 * Returns the error for a credential or a host that Berth does not know. Only a record of the
 * deletion yields host-deleted, after which the agent stops its sets (I3). A host that is merely
 * missing may come from a newer database than this one, so its agent continues (I17).
 */
export async function createHostRefusal(
  { db }: Pick<ControlContext, "db">,
  host: { credential: string } | { hostId: string },
): Promise<AppError> {
  const by = "hostId" in host ? host : { credentialHash: hashSecret(host.credential) };
  if (await isHostDeleted(db, by)) {
    return new AppError("host-deleted", {
      detail: "An operator has deleted this host. Its agent stops its sets.",
    });
  }
  return new AppError("unauthenticated", {
    detail: "The credential of the host is missing or invalid.",
  });
}
