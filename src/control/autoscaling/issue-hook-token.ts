import { insertToken } from "../../db/queries/tenancy/tokens.ts";
import { newId } from "../../lib/ids.ts";
import { hashSecret, newSecret } from "../../lib/token-hash.ts";
import type { UnitOfWork } from "../runtime/context.ts";

export interface HookOfToken {
  tenantId: string;
  serviceId: string;
  serviceName: string;
  hookId: string;
  name: string;
}

/** Creates a token that only calls this hook. Returns its secret, which Berth does not store. */
export async function issueHookToken(
  tx: UnitOfWork,
  { tenantId, serviceId, serviceName, hookId, name }: HookOfToken,
  cause: "hook" | "hook-rotation",
): Promise<string> {
  const secret = newSecret();
  const tokenId = newId("tok");
  await insertToken(tx, {
    id: tokenId,
    name,
    role: "hook",
    tenantId,
    hookId,
    pool: null,
    secretHash: hashSecret(secret),
    expiresInSeconds: null,
  });
  tx.emit({
    kind: "token-created",
    tenantId,
    serviceId,
    data: { cause, service: serviceName, name, tokenId, hookId },
  });
  return secret;
}
