ALTER TABLE "hosts" ADD COLUMN "image_bytes" bigint;--> statement-breakpoint
ALTER TABLE "hosts" ADD COLUMN "container_bytes" bigint;