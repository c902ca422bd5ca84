-- Why: an operator plans maintenance of hosts, and Berth takes hosts that repeatedly fail starts from new sets for a time. A change of
-- the quarantine marks the host as changed, so that planners read it again.
-- Locks: ACCESS EXCLUSIVE on hosts for the column and its trigger, for an instant.
-- The previous release runs on this schema. Its planner ignores a quarantine.
-- Rollback: drop both tables and the column, and create the trigger of 0040 again.
CREATE TABLE "host_maintenances" (
	"id" text PRIMARY KEY NOT NULL,
	"host_id" text NOT NULL,
	"starts_at" timestamp with time zone NOT NULL,
	"ends_at" timestamp with time zone NOT NULL,
	"action" text NOT NULL,
	"options" jsonb DEFAULT '{}'::jsonb NOT NULL,
	"state" text DEFAULT 'planned' NOT NULL,
	"has_cordoned" boolean DEFAULT false NOT NULL,
	"by_name" text,
	"reason" text,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "host_maintenances_state_known" CHECK ("host_maintenances"."state" in ('planned', 'active', 'ended', 'canceled')),
	CONSTRAINT "host_maintenances_action_known" CHECK ("host_maintenances"."action" in ('cordon', 'drain')),
	CONSTRAINT "host_maintenances_end_after_start" CHECK ("host_maintenances"."ends_at" > "host_maintenances"."starts_at")
);
--> statement-breakpoint
CREATE TABLE "host_start_failures" (
	"id" bigserial PRIMARY KEY NOT NULL,
	"host_id" text NOT NULL,
	"service_id" text NOT NULL,
	"revision" integer NOT NULL,
	"at" timestamp with time zone DEFAULT now() NOT NULL
);
--> statement-breakpoint
ALTER TABLE "hosts" ADD COLUMN "quarantine" jsonb;--> statement-breakpoint
ALTER TABLE "host_maintenances" ADD CONSTRAINT "host_maintenances_host_id_hosts_id_fk" FOREIGN KEY ("host_id") REFERENCES "public"."hosts"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "host_start_failures" ADD CONSTRAINT "host_start_failures_host_id_hosts_id_fk" FOREIGN KEY ("host_id") REFERENCES "public"."hosts"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
CREATE INDEX "host_maintenances_host" ON "host_maintenances" USING btree ("host_id","starts_at");--> statement-breakpoint
CREATE INDEX "host_maintenances_planned" ON "host_maintenances" USING btree ("starts_at") WHERE state = 'planned';--> statement-breakpoint
CREATE INDEX "host_maintenances_active" ON "host_maintenances" USING btree ("ends_at") WHERE state = 'active';--> statement-breakpoint
CREATE INDEX "host_start_failures_host" ON "host_start_failures" USING btree ("host_id","at");--> statement-breakpoint
CREATE INDEX "host_start_failures_service" ON "host_start_failures" USING btree ("service_id","revision");--> statement-breakpoint
CREATE INDEX "host_start_failures_at" ON "host_start_failures" USING btree ("at");--> statement-breakpoint
DROP TRIGGER hosts_stamp_changed_xid ON hosts;--> statement-breakpoint
CREATE TRIGGER hosts_stamp_changed_xid BEFORE UPDATE OF
  pool, zone, rack, labels, taints, state, cordoned, draining, quarantine, images, reported_at, reclaimable_volume_bytes, capabilities,
  allocatable_cpu_millis, allocatable_memory_bytes, allocatable_volume_bytes, allocatable_rootfs_bytes,
  allocated_cpu_millis, allocated_memory_bytes, allocated_volume_bytes, allocated_rootfs_bytes,
  overhead_memory_bytes, overhead_rootfs_bytes,
  unreported_cpu_millis, unreported_memory_bytes, unreported_volume_bytes, unreported_rootfs_bytes,
  used_cpu_millis, used_memory_bytes, used_volume_bytes, used_rootfs_bytes
ON hosts FOR EACH ROW EXECUTE FUNCTION stamp_changed_xid();
