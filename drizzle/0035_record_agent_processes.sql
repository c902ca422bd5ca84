-- Why: a copied data folder ran every set on two machines. hosts.agent has the process that manages a host, and
-- deleted_hosts.machine_id shows which former hosts a machine was.
-- Locks: ACCESS EXCLUSIVE on both tables for an instant, without a rewrite. Rollback: the previous release ignores both columns.
ALTER TABLE "deleted_hosts" ADD COLUMN "machine_id" text;--> statement-breakpoint
ALTER TABLE "hosts" ADD COLUMN "agent" jsonb;--> statement-breakpoint
CREATE INDEX "deleted_hosts_machine" ON "deleted_hosts" USING btree ("machine_id");