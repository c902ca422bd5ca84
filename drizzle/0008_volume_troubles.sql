-- Why: hosts say how much of their volume space is in the trash and what is wrong with their volumes; a volume says why it could
-- not be purged. Locks: brief ACCESS EXCLUSIVE on both tables, nothing is rewritten. Rollback: drop the columns.
ALTER TABLE "hosts" ADD COLUMN "trashed_volume_bytes" bigint DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE "hosts" ADD COLUMN "volume_reason" jsonb;--> statement-breakpoint
ALTER TABLE "volumes" ADD COLUMN "reason" jsonb;
