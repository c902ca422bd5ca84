-- Why: the history of a service says who changed what, and lets a user undo it. A service can be protected from deletion, and stopped.
-- Locks: ACCESS EXCLUSIVE on services for the columns, for an instant.
-- The previous release runs on this schema, but it neither records changes nor respects the two columns: use them when every process
-- runs this release.
-- Rollback: drop the table and the two columns.
CREATE TABLE "service_changes" (
	"id" text PRIMARY KEY NOT NULL,
	"service_id" text NOT NULL,
	"tenant_id" text NOT NULL,
	"number" integer NOT NULL,
	"kind" text NOT NULL,
	"before" jsonb NOT NULL,
	"after" jsonb NOT NULL,
	"summary" text NOT NULL,
	"by_token_id" text,
	"by_name" text,
	"generation" bigint NOT NULL,
	"at" timestamp with time zone DEFAULT now() NOT NULL,
	"undoes_id" text,
	"undone_by_id" text,
	CONSTRAINT "service_changes_kind_known" CHECK ("service_changes"."kind" in ('created', 'template', 'scale', 'resize', 'policy', 'rollback', 'stop', 'start', 'restart', 'protect', 'deleted'))
);
--> statement-breakpoint
ALTER TABLE "services" ADD COLUMN "deletion_protected" boolean DEFAULT false NOT NULL;--> statement-breakpoint
ALTER TABLE "services" ADD COLUMN "is_stopped" boolean DEFAULT false NOT NULL;--> statement-breakpoint
ALTER TABLE "service_changes" ADD CONSTRAINT "service_changes_service_id_services_id_fk" FOREIGN KEY ("service_id") REFERENCES "public"."services"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
CREATE UNIQUE INDEX "service_changes_number_unique" ON "service_changes" USING btree ("service_id","number");--> statement-breakpoint
CREATE INDEX "service_changes_at" ON "service_changes" USING btree ("at");