-- Why: the agent of a deleted host stops its sets (I3), but only after a positive statement. A missing host proves nothing.
-- Locks: none on existing tables. The previous release deletes hosts without a record, and their agents continue.
-- Rollback: drop the table. The previous release runs on this schema.
CREATE TABLE "deleted_hosts" (
	"host_id" text PRIMARY KEY NOT NULL,
	"credential_hash" text NOT NULL,
	"deleted_at" timestamp with time zone DEFAULT now() NOT NULL
);
--> statement-breakpoint
CREATE UNIQUE INDEX "deleted_hosts_credential_hash_unique" ON "deleted_hosts" USING btree ("credential_hash");--> statement-breakpoint
CREATE INDEX "deleted_hosts_deleted" ON "deleted_hosts" USING btree ("deleted_at");