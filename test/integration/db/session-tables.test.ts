import { afterEach, beforeEach, expect, it } from "vitest";
import { sessions, sshKeys } from "../../../src/db/schema/sessions.ts";
import { newId } from "../../../src/lib/ids.ts";
import { createFleetContext, type FleetContext } from "../../support/fleet/fleet-context.ts";

let f: FleetContext;
beforeEach(async () => {
  f = await createFleetContext();
});
afterEach(() => f.close());

const violates = (constraint: string) => ({ cause: { constraint_name: constraint } });

function insertSession(values: Partial<typeof sessions.$inferInsert>) {
  return f.ctx.db.insert(sessions).values({
    id: newId("ses"),
    tenantId: f.tenantId,
    serviceId: newId("svc"),
    setId: newId("set"),
    hostId: newId("host"),
    container: "app",
    kind: "exec",
    ...values,
  });
}

it("no session with an infra container can be stored (I10)", async () => {
  await insertSession({});
  await expect(insertSession({ container: "infra" })).rejects.toMatchObject(
    violates("sessions_not_in_infra"),
  );
});

it("only a transfer has no container, and only an ended session has an end", async () => {
  await insertSession({ kind: "transfer", container: null });
  await insertSession({ state: "ended", endedAt: new Date() });
  const unless = violates("sessions_container_unless_transfer");
  await expect(insertSession({ container: null })).rejects.toMatchObject(unless);
  const ended = violates("sessions_end_has_time");
  await expect(insertSession({ state: "ended" })).rejects.toMatchObject(ended);
});

it("a tenant has a key once, and again after its revocation", async () => {
  const insertKey = (name: string, revokedAt: Date | null = null) =>
    f.ctx.db.insert(sshKeys).values({
      id: newId("key"),
      tenantId: f.tenantId,
      name,
      algorithm: "ssh-ed25519",
      fingerprint: "SHA256:a",
      publicKey: "AAAA",
      role: "tenant",
      revokedAt,
    });
  await insertKey("old", new Date());
  await insertKey("ann");
  await expect(insertKey("bob")).rejects.toMatchObject(violates("ssh_keys_fingerprint_unique"));
});
