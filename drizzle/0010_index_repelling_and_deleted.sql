-- Why: a placement asks which services will not have it beside them; the sweep of journals asks what was deleted long ago.
-- Locks: SHARE on services and sets, as long as one read of each takes. Rollback: drop the indexes.
CREATE INDEX "services_repelling" ON "services" USING btree ("tenant_id") WHERE deleted_at is null and placement->'antiAffinity' <> '[]'::jsonb;--> statement-breakpoint
CREATE INDEX "services_deleted" ON "services" USING btree ("deleted_at") WHERE deleted_at is not null;--> statement-breakpoint
CREATE INDEX "sets_deleted" ON "sets" USING btree ("deleted_at") WHERE deleted_at is not null;
