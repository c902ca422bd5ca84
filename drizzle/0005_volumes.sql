CREATE TABLE "volumes" (
	"id" text PRIMARY KEY NOT NULL,
	"host_id" text NOT NULL,
	"tenant_id" text NOT NULL,
	"service" text NOT NULL,
	"set_id" text NOT NULL,
	"state" text NOT NULL,
	"size_bytes" bigint NOT NULL,
	"used_bytes" bigint,
	"trashed_at" timestamp with time zone,
	"expires_at" timestamp with time zone,
	"purge_asked_at" timestamp with time zone,
	"reported_at" timestamp with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "volumes_state_known" CHECK ("volumes"."state" in ('live', 'trashed'))
);
--> statement-breakpoint
ALTER TABLE "hosts" ADD COLUMN "set_memory" jsonb DEFAULT '{}'::jsonb NOT NULL;--> statement-breakpoint
ALTER TABLE "sets" ADD COLUMN "restore_volume_id" text;--> statement-breakpoint
ALTER TABLE "volumes" ADD CONSTRAINT "volumes_host_id_hosts_id_fk" FOREIGN KEY ("host_id") REFERENCES "public"."hosts"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
CREATE INDEX "volumes_tenant" ON "volumes" USING btree ("tenant_id","id");--> statement-breakpoint
CREATE INDEX "volumes_host" ON "volumes" USING btree ("host_id","id");