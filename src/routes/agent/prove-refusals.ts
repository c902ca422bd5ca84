import type { MiddlewareHandler } from "hono";
import {
  NONCE_HEADER,
  PROOF_HEADER,
  proveRefusal,
  refusalStatuses,
} from "../../contracts/agent-protocol/refusal-proof.ts";
import type { ApiEnv } from "../http/api-env.ts";
import { readBearerSecret } from "../http/authorize.ts";

/** Signs each refusal, so that an agent can distinguish it from the answer of a proxy. */
export const proveRefusals: MiddlewareHandler<ApiEnv> = async (c, next) => {
  await next();
  const { status } = c.res;
  const code = c.get("problemCode");
  if (!refusalStatuses.has(status) || code === undefined) return;
  const credential = readBearerSecret(c.req.header("authorization") ?? "");
  const nonce = c.req.header(NONCE_HEADER);
  if (credential === undefined || nonce === undefined) return;
  const proof = proveRefusal(credential, { status, code, nonce });
  if (proof !== undefined) c.res.headers.set(PROOF_HEADER, proof);
};
