import { hashSecret, signText } from "../../lib/token-hash.ts";

/** A request of an agent names a random value, so that an old answer proves nothing. */
export const NONCE_HEADER = "berth-nonce";
/** An answer that refuses an agent proves with this header that Berth itself has sent it. */
export const PROOF_HEADER = "berth-proof";
/** Statuses that refuse an agent. Other errors are faults, and the agent retries. */
export const refusalStatuses: ReadonlySet<number> = new Set([401, 403, 410]);

const noncePattern = /^[A-Za-z0-9_-]{16,64}$/;

/** The statement that a proof signs. */
export interface Refusal {
  status: number;
  /** The code of the problem. */
  code: string;
  nonce: string;
}

/**
 * Signs a refusal with the stored form of the agent's credential: HMAC-SHA256 in hex. A proxy that
 * answers in place of Berth has neither this key nor a valid answer to the nonce of this request.
 *
 * A proxy that decrypts the traffic could read the credential, but it could then send false desired
 * sets too. Returns undefined for an invalid nonce, which an older agent does not send at all.
 */
export function proveRefusal(
  credential: string,
  { status, code, nonce }: Refusal,
): string | undefined {
  if (!noncePattern.test(nonce)) return undefined;
  return signText(`berth-refusal-1:${status}:${code}:${nonce}`, hashSecret(credential));
}
