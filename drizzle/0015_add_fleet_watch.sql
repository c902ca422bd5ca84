-- Why: after an outage of Berth itself the failover sweep gives hosts several backoffs of time to return (I12). A held
-- replacement is a column and no longer a search through events.
-- Locks: ACCESS EXCLUSIVE on hosts for a moment; the index reads a table of few rows. The previous release ignores all of it.
-- Rollback: drop the table, the index and both columns.
CREATE TABLE "fleet_watch" (
	"id" boolean PRIMARY KEY NOT NULL,
	"watched_at" timestamp with time zone NOT NULL,
	"gap_at" timestamp with time zone,
	CONSTRAINT "fleet_watch_one_row" CHECK ("fleet_watch"."id")
);
--> statement-breakpoint
ALTER TABLE "hosts" ADD COLUMN "returned_at" timestamp with time zone;--> statement-breakpoint
ALTER TABLE "hosts" ADD COLUMN "held_at" timestamp with time zone;--> statement-breakpoint
CREATE INDEX "hosts_held" ON "hosts" USING btree ("held_at") WHERE held_at is not null;