ALTER TABLE "hosts" ADD COLUMN "trashed_volume_bytes" bigint DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE "hosts" ADD COLUMN "volume_reason" jsonb;--> statement-breakpoint
ALTER TABLE "volumes" ADD COLUMN "reason" jsonb;