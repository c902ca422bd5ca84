-- Why: a set whose new size is refused goes back to its former revision; a set that is to be elsewhere is replaced before it goes,
-- and says what holds it back. The indexes hold only sets that are on their way, so they cost the others nothing.
-- Locks: ACCESS EXCLUSIVE on sets, as long as one read of it takes. Rollback: drop the indexes and columns.
ALTER TABLE "sets" ADD COLUMN "former_revision" integer;--> statement-breakpoint
ALTER TABLE "sets" ADD COLUMN "held_back" jsonb;--> statement-breakpoint
ALTER TABLE "sets" ADD COLUMN "replaces" text;--> statement-breakpoint
ALTER TABLE "sets" ADD COLUMN "move_revision" integer;--> statement-breakpoint
CREATE INDEX "sets_replaces" ON "sets" USING btree ("replaces") WHERE replaces is not null;--> statement-breakpoint
CREATE INDEX "sets_moving" ON "sets" USING btree ("service_id") WHERE move_revision is not null;
