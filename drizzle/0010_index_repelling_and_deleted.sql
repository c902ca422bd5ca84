CREATE INDEX "services_repelling" ON "services" USING btree ("tenant_id") WHERE deleted_at is null and placement->'antiAffinity' <> '[]'::jsonb;--> statement-breakpoint
CREATE INDEX "services_deleted" ON "services" USING btree ("deleted_at") WHERE deleted_at is not null;--> statement-breakpoint
CREATE INDEX "sets_deleted" ON "sets" USING btree ("deleted_at") WHERE deleted_at is not null;