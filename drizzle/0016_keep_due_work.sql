-- Why: the outbox row is the due work itself: it stays until a job worker has done the work, with a due time, attempts and
-- the last error, and the relay claims due rows with SKIP LOCKED. sweep_turns gives each sweep one turn per interval for
-- the whole fleet, so that twelve job workers scan as often as one. The new indexes serve sweeps that read whole tables.
-- Locks: SHARE on outbox, revisions, services and sets while the indexes are built: writes wait, some seconds per million
-- sets. Rollback: drop the table, the columns and the indexes; the previous release runs on this schema.
CREATE TABLE "sweep_turns" (
	"name" text PRIMARY KEY NOT NULL,
	"next_at" timestamp with time zone NOT NULL
);
--> statement-breakpoint
DROP INDEX "outbox_created_at";--> statement-breakpoint
ALTER TABLE "outbox" ADD COLUMN "due_at" timestamp with time zone DEFAULT now() + interval '1 second' NOT NULL;--> statement-breakpoint
ALTER TABLE "outbox" ADD COLUMN "attempts" integer DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE "outbox" ADD COLUMN "last_error" text;--> statement-breakpoint
CREATE INDEX "outbox_due" ON "outbox" USING btree ("due_at");--> statement-breakpoint
CREATE INDEX "revisions_created_at" ON "revisions" USING btree ("created_at");--> statement-breakpoint
CREATE INDEX "services_deleting" ON "services" USING btree ("id") WHERE deleting and deleted_at is null;--> statement-breakpoint
CREATE INDEX "sets_pending_due" ON "sets" USING btree ("plan_after") WHERE host_id is null and deleted_at is null;