ALTER TABLE "sets" ADD COLUMN "former_revision" integer;--> statement-breakpoint
ALTER TABLE "sets" ADD COLUMN "held_back" jsonb;--> statement-breakpoint
ALTER TABLE "sets" ADD COLUMN "replaces" text;--> statement-breakpoint
ALTER TABLE "sets" ADD COLUMN "move_revision" integer;--> statement-breakpoint
CREATE INDEX "sets_replaces" ON "sets" USING btree ("replaces") WHERE replaces is not null;--> statement-breakpoint
CREATE INDEX "sets_moving" ON "sets" USING btree ("service_id") WHERE move_revision is not null;