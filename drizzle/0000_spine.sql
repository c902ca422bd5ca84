-- Why: the first schema. Locks: none that matter, everything is new. Rollback: drop the schema.
CREATE TABLE "idempotency_keys" (
	"scope" text NOT NULL,
	"key" text NOT NULL,
	"request_hash" text NOT NULL,
	"status" bigint,
	"body" text,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL
);
--> statement-breakpoint
CREATE TABLE "tenants" (
	"id" text PRIMARY KEY NOT NULL,
	"name" text NOT NULL,
	"sets_max" bigint NOT NULL,
	"cpu_millis_max" bigint NOT NULL,
	"memory_bytes_max" bigint NOT NULL,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL
);
--> statement-breakpoint
CREATE TABLE "tokens" (
	"id" text PRIMARY KEY NOT NULL,
	"name" text NOT NULL,
	"role" text NOT NULL,
	"tenant_id" text,
	"hook_id" text,
	"pool" text,
	"secret_hash" text NOT NULL,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	"expires_at" timestamp with time zone,
	"revoked_at" timestamp with time zone,
	"used_at" timestamp with time zone,
	CONSTRAINT "tokens_role_known" CHECK ("tokens"."role" in ('admin', 'operator', 'tenant', 'read', 'hook', 'enroll')),
	CONSTRAINT "tokens_tenant_matches_role" CHECK ("tokens"."role" <> 'tenant' or "tokens"."tenant_id" is not null)
);
--> statement-breakpoint
CREATE TABLE "decisions" (
	"id" text PRIMARY KEY NOT NULL,
	"tenant_id" text NOT NULL,
	"service_id" text NOT NULL,
	"at" timestamp with time zone DEFAULT now() NOT NULL,
	"from_replicas" integer NOT NULL,
	"to_replicas" integer NOT NULL,
	"acted" boolean NOT NULL,
	"because" jsonb NOT NULL,
	"generation" bigint NOT NULL
);
--> statement-breakpoint
CREATE TABLE "demands" (
	"id" text PRIMARY KEY NOT NULL,
	"tenant_id" text NOT NULL,
	"service_id" text NOT NULL,
	"hook_id" text NOT NULL,
	"key" text NOT NULL,
	"labels" jsonb NOT NULL,
	"state" text NOT NULL,
	"wanted_replicas" integer NOT NULL,
	"base_replicas" integer NOT NULL,
	"started_at" timestamp with time zone NOT NULL,
	"resolved_at" timestamp with time zone,
	"release_at" timestamp with time zone,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "demands_state_known" CHECK ("demands"."state" in ('firing', 'resolved', 'released'))
);
--> statement-breakpoint
CREATE TABLE "hooks" (
	"id" text PRIMARY KEY NOT NULL,
	"tenant_id" text NOT NULL,
	"service_id" text NOT NULL,
	"name" text NOT NULL,
	"rules" jsonb NOT NULL,
	"stabilisation_seconds" integer NOT NULL,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	"deleted_at" timestamp with time zone
);
--> statement-breakpoint
CREATE TABLE "host_pools" (
	"name" text PRIMARY KEY NOT NULL,
	"version" bigint NOT NULL,
	"overcommit_percent" jsonb NOT NULL,
	"high_water_percent" jsonb NOT NULL
);
--> statement-breakpoint
CREATE TABLE "hosts" (
	"id" text PRIMARY KEY NOT NULL,
	"name" text NOT NULL,
	"pool" text NOT NULL,
	"zone" text NOT NULL,
	"rack" text NOT NULL,
	"labels" jsonb NOT NULL,
	"taints" jsonb NOT NULL,
	"state" text NOT NULL,
	"reason" jsonb,
	"cordoned" boolean DEFAULT false NOT NULL,
	"draining" boolean DEFAULT false NOT NULL,
	"generation" bigint DEFAULT 0 NOT NULL,
	"accepted_generation" bigint DEFAULT 0 NOT NULL,
	"resync_required" boolean DEFAULT false NOT NULL,
	"lost_at" timestamp with time zone,
	"agent_version" text NOT NULL,
	"credential_hash" text NOT NULL,
	"lease_expires_at" timestamp with time zone NOT NULL,
	"allocatable_cpu_millis" bigint NOT NULL,
	"allocatable_memory_bytes" bigint NOT NULL,
	"allocatable_volume_bytes" bigint NOT NULL,
	"allocatable_rootfs_bytes" bigint NOT NULL,
	"allocated_cpu_millis" bigint DEFAULT 0 NOT NULL,
	"allocated_memory_bytes" bigint DEFAULT 0 NOT NULL,
	"allocated_volume_bytes" bigint DEFAULT 0 NOT NULL,
	"allocated_rootfs_bytes" bigint DEFAULT 0 NOT NULL,
	"unreported_cpu_millis" bigint DEFAULT 0 NOT NULL,
	"unreported_memory_bytes" bigint DEFAULT 0 NOT NULL,
	"unreported_volume_bytes" bigint DEFAULT 0 NOT NULL,
	"unreported_rootfs_bytes" bigint DEFAULT 0 NOT NULL,
	"used_cpu_millis" bigint DEFAULT 0 NOT NULL,
	"used_memory_bytes" bigint DEFAULT 0 NOT NULL,
	"used_volume_bytes" bigint DEFAULT 0 NOT NULL,
	"used_rootfs_bytes" bigint DEFAULT 0 NOT NULL,
	"reclaimable_volume_bytes" bigint DEFAULT 0 NOT NULL,
	"reported_at" timestamp with time zone,
	"images" jsonb DEFAULT '[]'::jsonb NOT NULL,
	"enrolled_at" timestamp with time zone DEFAULT now() NOT NULL,
	"changed_xid" "xid8" DEFAULT pg_current_xact_id() NOT NULL,
	CONSTRAINT "hosts_state_known" CHECK ("hosts"."state" in ('ready', 'unhealthy', 'lost')),
	CONSTRAINT "hosts_allocated_not_negative" CHECK (least("hosts"."allocated_cpu_millis", "hosts"."allocated_memory_bytes", "hosts"."allocated_volume_bytes", "hosts"."allocated_rootfs_bytes") >= 0)
);
--> statement-breakpoint
CREATE TABLE "events" (
	"id" bigserial PRIMARY KEY NOT NULL,
	"at" timestamp with time zone DEFAULT now() NOT NULL,
	"kind" text NOT NULL,
	"tenant_id" text,
	"service_id" text,
	"set_id" text,
	"host_id" text,
	"generation" bigint,
	"text" text NOT NULL,
	"data" jsonb DEFAULT '{}'::jsonb NOT NULL,
	"xid" "xid8" DEFAULT pg_current_xact_id() NOT NULL
);
--> statement-breakpoint
CREATE TABLE "outbox" (
	"id" bigserial PRIMARY KEY NOT NULL,
	"name" text NOT NULL,
	"job_id" text NOT NULL,
	"payload" jsonb NOT NULL,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL
);
--> statement-breakpoint
CREATE TABLE "placements" (
	"id" text PRIMARY KEY NOT NULL,
	"set_id" text NOT NULL,
	"host_id" text NOT NULL,
	"generation" bigint NOT NULL,
	"policy_version" bigint NOT NULL,
	"score" bigint NOT NULL,
	"because" jsonb NOT NULL,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL
);
--> statement-breakpoint
CREATE TABLE "rejections" (
	"set_id" text PRIMARY KEY NOT NULL,
	"policy_version" bigint NOT NULL,
	"hosts_total" integer NOT NULL,
	"reasons" jsonb NOT NULL,
	"at" timestamp with time zone DEFAULT now() NOT NULL
);
--> statement-breakpoint
CREATE TABLE "revisions" (
	"service_id" text NOT NULL,
	"number" integer NOT NULL,
	"template" jsonb NOT NULL,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "revisions_pkey" PRIMARY KEY("service_id","number")
);
--> statement-breakpoint
CREATE TABLE "services" (
	"id" text PRIMARY KEY NOT NULL,
	"tenant_id" text NOT NULL,
	"name" text NOT NULL,
	"generation" bigint DEFAULT 1 NOT NULL,
	"revision" integer DEFAULT 1 NOT NULL,
	"replicas" integer NOT NULL,
	"desired_replicas" integer NOT NULL,
	"priority" integer NOT NULL,
	"placement" jsonb NOT NULL,
	"on_host_lost" text NOT NULL,
	"autoscale" jsonb,
	"deleting" boolean DEFAULT false NOT NULL,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	"updated_at" timestamp with time zone DEFAULT now() NOT NULL,
	"deleted_at" timestamp with time zone,
	CONSTRAINT "services_on_host_lost_known" CHECK ("services"."on_host_lost" in ('replace', 'wait')),
	CONSTRAINT "services_replicas_not_negative" CHECK (least("services"."replicas", "services"."desired_replicas") >= 0)
);
--> statement-breakpoint
CREATE TABLE "sets" (
	"id" text PRIMARY KEY NOT NULL,
	"tenant_id" text NOT NULL,
	"service_id" text NOT NULL,
	"revision" integer NOT NULL,
	"generation" bigint DEFAULT 1 NOT NULL,
	"desired" text DEFAULT 'running' NOT NULL,
	"state" text DEFAULT 'pending' NOT NULL,
	"ready" boolean DEFAULT false NOT NULL,
	"reason" jsonb,
	"priority" integer NOT NULL,
	"cpu_millis" bigint NOT NULL,
	"memory_bytes" bigint NOT NULL,
	"volume_bytes" bigint NOT NULL,
	"rootfs_bytes" bigint NOT NULL,
	"host_id" text,
	"host_generation" bigint DEFAULT 0 NOT NULL,
	"restart_generation" bigint DEFAULT 0 NOT NULL,
	"leaving" boolean DEFAULT false NOT NULL,
	"avoid_host_ids" jsonb DEFAULT '[]'::jsonb NOT NULL,
	"attempts" integer DEFAULT 0 NOT NULL,
	"plan_after" timestamp with time zone DEFAULT now() NOT NULL,
	"address" text,
	"containers" jsonb DEFAULT '[]'::jsonb NOT NULL,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	"placed_at" timestamp with time zone,
	"running_at" timestamp with time zone,
	"updated_at" timestamp with time zone DEFAULT now() NOT NULL,
	"deleted_at" timestamp with time zone,
	"changed_xid" "xid8",
	CONSTRAINT "sets_desired_known" CHECK ("sets"."desired" in ('running', 'stopped', 'deleted')),
	CONSTRAINT "sets_state_known" CHECK ("sets"."state" in ('pending', 'placed', 'preparing', 'starting', 'running', 'stopping', 'stopped', 'failed', 'lost')),
	CONSTRAINT "sets_pending_has_no_host" CHECK (("sets"."state" = 'pending') <= ("sets"."host_id" is null)),
	CONSTRAINT "sets_deleted_has_no_host" CHECK ("sets"."deleted_at" is null or "sets"."host_id" is null)
);
--> statement-breakpoint
ALTER TABLE "tokens" ADD CONSTRAINT "tokens_tenant_id_tenants_id_fk" FOREIGN KEY ("tenant_id") REFERENCES "public"."tenants"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "demands" ADD CONSTRAINT "demands_service_id_services_id_fk" FOREIGN KEY ("service_id") REFERENCES "public"."services"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "demands" ADD CONSTRAINT "demands_hook_id_hooks_id_fk" FOREIGN KEY ("hook_id") REFERENCES "public"."hooks"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "hooks" ADD CONSTRAINT "hooks_service_id_services_id_fk" FOREIGN KEY ("service_id") REFERENCES "public"."services"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "revisions" ADD CONSTRAINT "revisions_service_id_services_id_fk" FOREIGN KEY ("service_id") REFERENCES "public"."services"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "services" ADD CONSTRAINT "services_tenant_id_tenants_id_fk" FOREIGN KEY ("tenant_id") REFERENCES "public"."tenants"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "sets" ADD CONSTRAINT "sets_service_id_services_id_fk" FOREIGN KEY ("service_id") REFERENCES "public"."services"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "sets" ADD CONSTRAINT "sets_host_id_hosts_id_fk" FOREIGN KEY ("host_id") REFERENCES "public"."hosts"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
CREATE UNIQUE INDEX "idempotency_keys_unique" ON "idempotency_keys" USING btree ("scope","key");--> statement-breakpoint
CREATE INDEX "idempotency_keys_created_at" ON "idempotency_keys" USING btree ("created_at");--> statement-breakpoint
CREATE UNIQUE INDEX "tenants_name_unique" ON "tenants" USING btree ("name");--> statement-breakpoint
CREATE UNIQUE INDEX "tokens_secret_hash_unique" ON "tokens" USING btree ("secret_hash");--> statement-breakpoint
CREATE INDEX "tokens_tenant_id" ON "tokens" USING btree ("tenant_id");--> statement-breakpoint
CREATE INDEX "decisions_service" ON "decisions" USING btree ("service_id","id");--> statement-breakpoint
CREATE INDEX "decisions_tenant" ON "decisions" USING btree ("tenant_id","id");--> statement-breakpoint
CREATE UNIQUE INDEX "demands_alert_unique" ON "demands" USING btree ("hook_id","key","started_at");--> statement-breakpoint
CREATE INDEX "demands_held" ON "demands" USING btree ("service_id") WHERE state <> 'released';--> statement-breakpoint
CREATE INDEX "demands_due" ON "demands" USING btree ("release_at") WHERE state = 'resolved';--> statement-breakpoint
CREATE UNIQUE INDEX "hooks_name_unique" ON "hooks" USING btree ("service_id","name") WHERE deleted_at is null;--> statement-breakpoint
CREATE UNIQUE INDEX "hosts_name_unique" ON "hosts" USING btree ("name");--> statement-breakpoint
CREATE UNIQUE INDEX "hosts_credential_hash_unique" ON "hosts" USING btree ("credential_hash");--> statement-breakpoint
CREATE INDEX "hosts_changed_xid" ON "hosts" USING btree ("changed_xid");--> statement-breakpoint
CREATE INDEX "events_tenant" ON "events" USING btree ("tenant_id","id");--> statement-breakpoint
CREATE INDEX "events_service" ON "events" USING btree ("service_id","id");--> statement-breakpoint
CREATE INDEX "events_set" ON "events" USING btree ("set_id","id");--> statement-breakpoint
CREATE INDEX "events_host" ON "events" USING btree ("host_id","id");--> statement-breakpoint
CREATE INDEX "events_xid" ON "events" USING btree ("xid","id");--> statement-breakpoint
CREATE INDEX "outbox_created_at" ON "outbox" USING btree ("created_at");--> statement-breakpoint
CREATE INDEX "placements_set" ON "placements" USING btree ("set_id","id");--> statement-breakpoint
CREATE UNIQUE INDEX "services_name_unique" ON "services" USING btree ("tenant_id","name") WHERE deleted_at is null;--> statement-breakpoint
CREATE INDEX "sets_pending" ON "sets" USING btree ("priority","id") WHERE state = 'pending';--> statement-breakpoint
CREATE INDEX "sets_host" ON "sets" USING btree ("host_id","host_generation") WHERE host_id is not null;--> statement-breakpoint
CREATE INDEX "sets_service" ON "sets" USING btree ("service_id","id") WHERE deleted_at is null;--> statement-breakpoint
CREATE INDEX "sets_tenant" ON "sets" USING btree ("tenant_id","id") WHERE deleted_at is null;--> statement-breakpoint
CREATE INDEX "sets_changed_xid" ON "sets" USING btree ("changed_xid") WHERE changed_xid is not null;