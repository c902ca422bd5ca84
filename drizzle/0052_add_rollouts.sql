-- Why: a rollout gives the sets of a service another revision, in steps and within its disruption budget. A service has at most one active
-- rollout (I21). The tables are empty until the use cases of rollouts exist.
-- Locks: ACCESS EXCLUSIVE on operations, revisions, services and sets for the columns, and SHARE ROW EXCLUSIVE on hosts, services and
-- tenants for the foreign keys, each for an instant. The two checks read the table operations, which has a row for each change in progress.
-- The previous release runs on this schema. It must not see operations of the kind `update`: start no rollout before every process runs
-- this release.
-- Rollback: drop the five tables and the new columns, and add the checks of operations with the former values.
CREATE TABLE "host_images" (
	"rollout_id" text NOT NULL,
	"host_id" text NOT NULL,
	"reference" text NOT NULL,
	"tenant_id" text NOT NULL,
	"purpose" text NOT NULL,
	"state" text DEFAULT 'requested' NOT NULL,
	"digest" text,
	"image_id" text,
	"reason" jsonb,
	"is_permanent" boolean DEFAULT false NOT NULL,
	"requested_at" timestamp with time zone DEFAULT now() NOT NULL,
	"reported_at" timestamp with time zone,
	CONSTRAINT "host_images_pkey" PRIMARY KEY("rollout_id","host_id","reference"),
	CONSTRAINT "host_images_purpose_known" CHECK ("host_images"."purpose" in ('pull', 'retain')),
	CONSTRAINT "host_images_state_known" CHECK ("host_images"."state" in ('requested', 'pulled', 'failed'))
);
--> statement-breakpoint
CREATE TABLE "rollout_measurements" (
	"rollout_id" text NOT NULL,
	"metric" text NOT NULL,
	"value" double precision NOT NULL,
	"within_since" timestamp with time zone,
	"at" timestamp with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "rollout_measurements_pkey" PRIMARY KEY("rollout_id","metric")
);
--> statement-breakpoint
CREATE TABLE "rollout_sets" (
	"rollout_id" text NOT NULL,
	"set_id" text NOT NULL,
	"step" integer NOT NULL,
	"method" text NOT NULL,
	"direction" text NOT NULL,
	"replacement_set_id" text,
	"restarts_before" jsonb DEFAULT '{}'::jsonb NOT NULL,
	"began_at" timestamp with time zone,
	"ready_at" timestamp with time zone,
	"ended_at" timestamp with time zone,
	"outcome" text,
	"reason" jsonb,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "rollout_sets_pkey" PRIMARY KEY("rollout_id","set_id"),
	CONSTRAINT "rollout_sets_method_known" CHECK ("rollout_sets"."method" in ('start-first', 'in-place', 'in-place-all')),
	CONSTRAINT "rollout_sets_direction_known" CHECK ("rollout_sets"."direction" in ('to', 'from')),
	CONSTRAINT "rollout_sets_outcome_known" CHECK ("rollout_sets"."outcome" in ('done', 'failed', 'canceled', 'lost')),
	CONSTRAINT "rollout_sets_outcome_at_end" CHECK (("rollout_sets"."outcome" is null) = ("rollout_sets"."ended_at" is null))
);
--> statement-breakpoint
CREATE TABLE "rollout_wakes" (
	"id" bigserial PRIMARY KEY NOT NULL,
	"service_id" text NOT NULL
);
--> statement-breakpoint
CREATE TABLE "rollouts" (
	"id" text PRIMARY KEY NOT NULL,
	"tenant_id" text NOT NULL,
	"service_id" text NOT NULL,
	"number" integer NOT NULL,
	"kind" text NOT NULL,
	"state" text NOT NULL,
	"phase" text,
	"from_revision" integer,
	"to_revision" integer,
	"change" jsonb NOT NULL,
	"strategy" jsonb NOT NULL,
	"step" integer DEFAULT 0 NOT NULL,
	"selection" jsonb,
	"returns_excess" boolean DEFAULT false NOT NULL,
	"step_began_at" timestamp with time zone,
	"gate_since" timestamp with time zone,
	"disrupted_at" timestamp with time zone,
	"progress_at" timestamp with time zone,
	"reason" jsonb,
	"changed_by" text,
	"message" text,
	"requested_by" text,
	"due_at" timestamp with time zone DEFAULT now() NOT NULL,
	"attempts" integer DEFAULT 0 NOT NULL,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	"started_at" timestamp with time zone,
	"ended_at" timestamp with time zone,
	CONSTRAINT "rollouts_kind_known" CHECK ("rollouts"."kind" in ('update', 'restart')),
	CONSTRAINT "rollouts_state_known" CHECK ("rollouts"."state" in ('queued', 'running', 'paused', 'rolling-back', 'completed', 'rolled-back', 'failed', 'superseded', 'canceled')),
	CONSTRAINT "rollouts_phase_known" CHECK ("rollouts"."phase" in ('preparing', 'updating', 'soaking', 'awaiting-promotion', 'returning')),
	CONSTRAINT "rollouts_ended_has_time" CHECK (("rollouts"."state" in ('queued', 'running', 'paused', 'rolling-back')) = ("rollouts"."ended_at" is null))
);
--> statement-breakpoint
ALTER TABLE "operations" DROP CONSTRAINT "operations_phase_known";--> statement-breakpoint
ALTER TABLE "operations" DROP CONSTRAINT "operations_owner_known";--> statement-breakpoint
ALTER TABLE "operations" ADD COLUMN "rollout_id" text;--> statement-breakpoint
ALTER TABLE "operations" ADD COLUMN "restarts" boolean DEFAULT false NOT NULL;--> statement-breakpoint
ALTER TABLE "operations" ADD COLUMN "target_host_id" text;--> statement-breakpoint
ALTER TABLE "operations" ADD COLUMN "moves_volume" boolean DEFAULT false NOT NULL;--> statement-breakpoint
ALTER TABLE "operations" ADD COLUMN "transfer_id" text;--> statement-breakpoint
ALTER TABLE "operations" ADD COLUMN "began_at" timestamp with time zone;--> statement-breakpoint
ALTER TABLE "revisions" ADD COLUMN "pinned_images" jsonb;--> statement-breakpoint
ALTER TABLE "revisions" ADD COLUMN "changed_containers" jsonb;--> statement-breakpoint
ALTER TABLE "services" ADD COLUMN "rollout" jsonb;--> statement-breakpoint
ALTER TABLE "sets" ADD COLUMN "unready_since" timestamp with time zone;--> statement-breakpoint
ALTER TABLE "host_images" ADD CONSTRAINT "host_images_rollout_id_rollouts_id_fk" FOREIGN KEY ("rollout_id") REFERENCES "public"."rollouts"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "host_images" ADD CONSTRAINT "host_images_host_id_hosts_id_fk" FOREIGN KEY ("host_id") REFERENCES "public"."hosts"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "rollout_measurements" ADD CONSTRAINT "rollout_measurements_rollout_id_rollouts_id_fk" FOREIGN KEY ("rollout_id") REFERENCES "public"."rollouts"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "rollout_sets" ADD CONSTRAINT "rollout_sets_rollout_id_rollouts_id_fk" FOREIGN KEY ("rollout_id") REFERENCES "public"."rollouts"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "rollouts" ADD CONSTRAINT "rollouts_tenant_id_tenants_id_fk" FOREIGN KEY ("tenant_id") REFERENCES "public"."tenants"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "rollouts" ADD CONSTRAINT "rollouts_service_id_services_id_fk" FOREIGN KEY ("service_id") REFERENCES "public"."services"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
CREATE INDEX "host_images_host" ON "host_images" USING btree ("host_id");--> statement-breakpoint
CREATE INDEX "rollout_sets_open" ON "rollout_sets" USING btree ("rollout_id","set_id") WHERE ended_at is null;--> statement-breakpoint
CREATE INDEX "rollout_sets_set" ON "rollout_sets" USING btree ("set_id") WHERE ended_at is null;--> statement-breakpoint
CREATE INDEX "rollout_sets_replacement" ON "rollout_sets" USING btree ("replacement_set_id") WHERE ended_at is null and replacement_set_id is not null;--> statement-breakpoint
CREATE INDEX "rollout_wakes_service" ON "rollout_wakes" USING btree ("service_id");--> statement-breakpoint
CREATE UNIQUE INDEX "rollouts_number_unique" ON "rollouts" USING btree ("service_id","number");--> statement-breakpoint
CREATE UNIQUE INDEX "rollouts_active_unique" ON "rollouts" USING btree ("service_id") WHERE state in ('running', 'paused', 'rolling-back');--> statement-breakpoint
CREATE UNIQUE INDEX "rollouts_queued_unique" ON "rollouts" USING btree ("service_id") WHERE state = 'queued';--> statement-breakpoint
CREATE INDEX "rollouts_due" ON "rollouts" USING btree ("due_at") WHERE state in ('running', 'rolling-back');--> statement-breakpoint
CREATE INDEX "rollouts_tenant" ON "rollouts" USING btree ("tenant_id");--> statement-breakpoint
CREATE INDEX "rollouts_ended" ON "rollouts" USING btree ("ended_at") WHERE ended_at is not null;--> statement-breakpoint
ALTER TABLE "operations" ADD CONSTRAINT "operations_phase_known" CHECK ("operations"."phase" in ('waiting', 'replacing', 'leaving', 'applying', 'reverting', 'updating', 'copying', 'halting'));--> statement-breakpoint
ALTER TABLE "operations" ADD CONSTRAINT "operations_owner_known" CHECK ("operations"."owner" in ('person', 'drain', 'resize', 'rollout', 'start-failed', 'rebalance', 'preemption'));