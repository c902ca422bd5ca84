-- Why: the placer takes due sets by priority, and then an equal share per tenant. The former index had neither tenant
-- nor due time, so each placement read all waiting sets of all tenants.
-- Locks: ACCESS EXCLUSIVE on sets for an instant, then SHARE while the small partial index is built: writes wait.
-- Rollback: create sets_pending again. The previous release runs on this schema, and sorts the pending sets.
DROP INDEX "sets_pending";--> statement-breakpoint
CREATE INDEX "sets_pending_by_tenant" ON "sets" USING btree ("priority","tenant_id","plan_after") WHERE host_id is null and deleted_at is null;
