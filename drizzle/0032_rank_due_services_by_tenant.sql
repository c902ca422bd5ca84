-- Why: a claim of due services ranked the 10,000 longest due ones by tenant. Behind so many services of one tenant, those of others
-- waited. The column and its index give the tenants with due services, and the longest due services of each.
-- Backfill: each row gets the tenant of its service, which never changes.
-- Locks: ACCESS EXCLUSIVE on autoscale_states for the column, the backfill and the index: statements wait, about a second per
-- 100,000 services with demands.
-- The previous release runs on this schema: its inserts name no tenant, so the trigger sets it.
-- Rollback: drop the trigger, the function, and the column with its index.
ALTER TABLE "autoscale_states" ADD COLUMN "tenant_id" text;--> statement-breakpoint
UPDATE autoscale_states a SET tenant_id = s.tenant_id FROM services s WHERE s.id = a.service_id;--> statement-breakpoint
ALTER TABLE "autoscale_states" ALTER COLUMN "tenant_id" SET NOT NULL;--> statement-breakpoint
CREATE FUNCTION set_tenant_of_autoscale_state() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  NEW.tenant_id := (SELECT tenant_id FROM services WHERE id = NEW.service_id);
  RETURN NEW;
END
$$;--> statement-breakpoint
CREATE TRIGGER autoscale_states_set_tenant BEFORE INSERT ON autoscale_states
FOR EACH ROW WHEN (NEW.tenant_id IS NULL) EXECUTE FUNCTION set_tenant_of_autoscale_state();--> statement-breakpoint
CREATE INDEX "autoscale_states_due_by_tenant" ON "autoscale_states" USING btree ("tenant_id","due_at") WHERE due_at is not null;
