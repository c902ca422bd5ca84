-- Why: the agent of a host replaces its credential when an operator requests that. Until the first use of the next credential, both
-- are valid. A deleted host records both, so that its agent learns of the deletion with either one.
-- Locks: ACCESS EXCLUSIVE on hosts and deleted_hosts for an instant. It rewrites no row, and both indexes are empty.
-- Rollback: drop the columns, whose indexes go with them. The previous release runs on this schema. It refuses a next credential, and
-- the agent then uses the previous one.
ALTER TABLE "deleted_hosts" ADD COLUMN "next_credential_hash" text;--> statement-breakpoint
ALTER TABLE "hosts" ADD COLUMN "next_credential_hash" text;--> statement-breakpoint
ALTER TABLE "hosts" ADD COLUMN "rotation_requested_at" timestamp with time zone;--> statement-breakpoint
ALTER TABLE "hosts" ADD COLUMN "credential_replaced_at" timestamp with time zone;--> statement-breakpoint
CREATE INDEX "deleted_hosts_next_credential_hash" ON "deleted_hosts" USING btree ("next_credential_hash") WHERE next_credential_hash is not null;--> statement-breakpoint
CREATE UNIQUE INDEX "hosts_next_credential_hash_unique" ON "hosts" USING btree ("next_credential_hash") WHERE next_credential_hash is not null;