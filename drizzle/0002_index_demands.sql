-- Why: demands are listed by service, and released ones are forgotten by age. Locks: SHARE on demands while the indexes
-- are built, so deliveries wait; the table is small. Rollback: drop both indexes.
CREATE INDEX "demands_service" ON "demands" USING btree ("service_id","id");--> statement-breakpoint
CREATE INDEX "demands_released" ON "demands" USING btree ("release_at") WHERE state = 'released';
