-- Why: after a restore, a set may run on two hosts. The copy that the database does not know ends when the other one is reported ready.
-- Locks: ACCESS EXCLUSIVE on unknown_sets for an instant, and SHARE while it builds the index. The table is small, mostly empty.
-- Rollback: drop the index and the column. The previous release runs on this schema.
ALTER TABLE "unknown_sets" ADD COLUMN "replaced_at" timestamp with time zone;--> statement-breakpoint
CREATE INDEX "unknown_sets_set" ON "unknown_sets" USING btree ("set_id");