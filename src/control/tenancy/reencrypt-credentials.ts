import {
  listCredentialsOfOtherKeys,
  updateCiphertext,
} from "../../db/queries/tenancy/registry-credentials.ts";
import type { ControlContext } from "../runtime/context.ts";
import { openPassword, sealPassword } from "./registry-credentials.ts";

const ROWS_PER_PAGE = 200;

/**
 * Encrypts all registry credentials with the first key, so that an operator can remove the others.
 * Runs at the start of an API process, and does nothing without a key. Any number of processes may
 * run it at the same time. A credential whose key is missing stays as it is.
 */
export async function reencryptCredentials(ctx: ControlContext): Promise<void> {
  const { keyring } = ctx;
  if (!keyring) return;
  let page;
  let afterId = "";
  let changed = 0;
  let unreadable = 0;
  do {
    page = await listCredentialsOfOtherKeys(ctx.db, keyring.keyId, afterId, ROWS_PER_PAGE);
    for (const row of page) {
      const password = await openPassword(keyring, row);
      if (password === undefined) unreadable++;
      else {
        await updateCiphertext(ctx.db, row, await sealPassword(keyring, row, password));
        changed++;
      }
    }
    afterId = page.at(-1)?.id ?? "";
  } while (page.length === ROWS_PER_PAGE);
  const { keyId } = keyring;
  if (changed > 0) ctx.log.info({ changed, keyId }, "encrypted registry credentials again");
  if (unreadable > 0)
    ctx.log.error(
      { unreadable },
      "cannot decrypt registry credentials: BERTH_ENCRYPTION_KEYS lacks their key, or the rows were altered",
    );
}
