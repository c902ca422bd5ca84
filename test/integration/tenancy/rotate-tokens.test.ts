import { sql } from "drizzle-orm";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { rotateHook } from "../../../src/control/autoscaling/rotate-hook.ts";
import { authenticate } from "../../../src/control/tenancy/authenticate.ts";
import { createTenant } from "../../../src/control/tenancy/create-tenant.ts";
import { createToken } from "../../../src/control/tenancy/create-token.ts";
import { revokeToken } from "../../../src/control/tenancy/revoke-token.ts";
import { rotateToken } from "../../../src/control/tenancy/rotate-token.ts";
import { queryRows } from "../../../src/db/queries/runtime/query.ts";
import { assert } from "../../../src/lib/assert.ts";
import { newId } from "../../../src/lib/ids.ts";
import { createAutoscaledService } from "../../support/fleet/autoscaled-service.ts";
import { createFleetContext, type FleetContext } from "../../support/fleet/fleet-context.ts";
import { tenantBody } from "../../support/fleet/tenant-body.ts";

let fleet: FleetContext;
beforeAll(async () => {
  fleet = await createFleetContext();
  await createTenant(fleet.ctx, tenantBody("acme"));
});
afterAll(() => fleet.close());

const admin = { tokenId: "tok_test" };
const HOUR_SECONDS = 3_600;
const conflict = (text: string) => ({
  code: "state-conflict",
  publicDetail: expect.stringContaining(text),
});

/** Whether Berth accepts each secret, read from the database. */
async function areValid(...secrets: string[]): Promise<boolean[]> {
  fleet.ctx.tokenCache.clear();
  const callers = await Promise.all(secrets.map((secret) => authenticate(fleet.ctx, secret)));
  return callers.map((caller) => caller !== undefined);
}

/** Ends the tokens that expire within two hours. */
async function endExpiringTokens(): Promise<void> {
  await fleet.ctx.db.execute(
    sql`update tokens set expires_at = now() where expires_at > now() and expires_at < now() + interval '2 hours'`,
  );
}

describe("the rotation of a token", () => {
  const body = { name: "ci", role: "tenant", tenant: "acme" } as const;

  test("both tokens are valid until the overlap ends", async () => {
    const old = await createToken(fleet.ctx, admin, body);
    const { id } = old.token;
    const rotated = await rotateToken(fleet.ctx, admin, id, HOUR_SECONDS);
    const { role, tenant } = body;
    expect(rotated.token).toMatchObject({ name: "ci", role, tenant, expiresAt: null });
    expect(rotated.former).toMatchObject({ id, expiresAt: expect.any(String) });
    expect(await areValid(old.secret, rotated.secret)).toEqual([true, true]);
    await endExpiringTokens();
    expect(await areValid(old.secret, rotated.secret)).toEqual([false, true]);
  });

  test("the previous token expires immediately without an overlap", async () => {
    const old = await createToken(fleet.ctx, admin, body);
    await authenticate(fleet.ctx, old.secret);
    const rotated = await rotateToken(fleet.ctx, admin, old.token.id, 0);
    expect(await authenticate(fleet.ctx, old.secret)).toBeUndefined();
    expect(await areValid(rotated.secret)).toEqual([true]);
  });

  test("the new token has the lifetime of the previous one, which expires no later than before", async () => {
    const old = await createToken(fleet.ctx, admin, { ...body, expiresInSeconds: 600 });
    const { token, former } = await rotateToken(fleet.ctx, admin, old.token.id, HOUR_SECONDS);
    expect(former.expiresAt).toBe(old.token.expiresAt);
    expect(Date.parse(token.expiresAt ?? "") - Date.parse(token.createdAt)).toBe(600_000);
  });

  test("a token is rotated once, and its successor has the original lifetime", async () => {
    const old = await createToken(fleet.ctx, admin, { ...body, expiresInSeconds: 86_400 });
    const rotate = (id: string) => rotateToken(fleet.ctx, admin, id, HOUR_SECONDS);
    const [first, second] = await Promise.allSettled([rotate(old.token.id), rotate(old.token.id)]);
    const [done, refused] = first.status === "fulfilled" ? [first, second] : [second, first];
    assert(done.status === "fulfilled", "one of two concurrent rotations succeeds");
    const { token, former } = done.value;
    expect(refused).toMatchObject({ status: "rejected", reason: conflict(token.id) });
    await expect(rotate(old.token.id)).rejects.toMatchObject(conflict(token.id));
    expect(Date.parse(former.expiresAt ?? "")).toBeLessThan(Date.parse(old.token.expiresAt ?? ""));
    const next = await rotate(token.id);
    for (const { createdAt, expiresAt } of [token, next.token])
      expect(Date.parse(expiresAt ?? "") - Date.parse(createdAt)).toBe(86_400_000);
  });

  test("a token that is revoked, unknown, or for one enrollment is refused", async () => {
    const old = await createToken(fleet.ctx, admin, body);
    await revokeToken(fleet.ctx, old.token.id);
    const enroll = await createToken(fleet.ctx, admin, { name: "host", role: "enroll" });
    const rotate = (id: string) => rotateToken(fleet.ctx, admin, id, HOUR_SECONDS);
    await expect(rotate(old.token.id)).rejects.toMatchObject(conflict("Create a new one"));
    await expect(rotate(enroll.token.id)).rejects.toMatchObject(conflict("enrolls one host"));
    await expect(rotate(newId("tok"))).rejects.toMatchObject({ code: "not-found" });
  });
});

describe("the rotation of a hook's token", () => {
  test("at most two tokens are valid, and the previous one expires after the overlap", async () => {
    const menu = await createAutoscaledService(fleet, "menu");
    const rotate = () =>
      rotateHook(fleet.ctx, fleet.tenantId, menu.name, menu.hookId, HOUR_SECONDS);
    const second = await rotate();
    expect(await areValid(menu.token, second.token)).toEqual([true, true]);
    expect(Date.parse(second.formerExpiresAt)).toBeGreaterThan(Date.now());
    const third = await rotate();
    expect(await areValid(menu.token, second.token, third.token)).toEqual([false, true, true]);
    await endExpiringTokens();
    expect(await areValid(second.token, third.token)).toEqual([false, true]);
    expect(await authenticate(fleet.ctx, third.token)).toMatchObject({ hookId: menu.hookId });
  });

  test("the token of a hook is rotated with its hook only", async () => {
    const menu = await createAutoscaledService(fleet, "kitchen");
    const [row] = await queryRows<{ id: string }>(
      fleet.ctx.db,
      sql`select id from tokens where hook_id = ${menu.hookId}`,
    );
    const refused = rotateToken(fleet.ctx, admin, row?.id ?? "", HOUR_SECONDS);
    await expect(refused).rejects.toMatchObject(conflict("Rotate the token of the hook"));
    const other = rotateHook(fleet.ctx, fleet.tenantId, menu.name, newId("hook"), HOUR_SECONDS);
    await expect(other).rejects.toMatchObject({ code: "not-found" });
  });
});
