-- Why: six columns of sets were overlapping half state machines. A set now has at most one row in operations (I14), sizes are apart from
-- revisions, a service has a current and a target revision, and a disruption budget. docs/internals/operations.md has the design.
-- Locks: ACCESS EXCLUSIVE on services and sets for the new columns, then one read of each table for the backfill. It rewrites no sets:
-- a ready set without ready_since counts as ready for long.
-- The previous release runs on this schema, but it neither sees operations nor creates any: do not move, drain or resize until every
-- process runs the new release. The old columns stay until the next release.
-- Rollback: drop the tables and columns; moves and resizes in progress end where they are.
CREATE TABLE "drains" (
	"host_id" text PRIMARY KEY NOT NULL,
	"deadline_at" timestamp with time zone,
	"is_forced" boolean DEFAULT false NOT NULL,
	"discards_volumes" boolean DEFAULT false NOT NULL,
	"reported_at" timestamp with time zone,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL
);
--> statement-breakpoint
CREATE TABLE "operations" (
	"set_id" text PRIMARY KEY NOT NULL,
	"service_id" text NOT NULL,
	"kind" text NOT NULL,
	"phase" text NOT NULL,
	"owner" text NOT NULL,
	"drain_host_id" text,
	"may_move" boolean DEFAULT false NOT NULL,
	"discards_volume" boolean DEFAULT false NOT NULL,
	"to_revision" integer,
	"cpu_millis" bigint,
	"memory_bytes" bigint,
	"volume_bytes" bigint,
	"former_cpu_millis" bigint,
	"former_memory_bytes" bigint,
	"former_volume_bytes" bigint,
	"replacement_set_id" text,
	"blocked" jsonb,
	"attempts" integer DEFAULT 0 NOT NULL,
	"due_at" timestamp with time zone DEFAULT now() NOT NULL,
	"deadline_at" timestamp with time zone,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "operations_kind_known" CHECK ("operations"."kind" in ('move', 'resize', 'update')),
	CONSTRAINT "operations_phase_known" CHECK ("operations"."phase" in ('waiting', 'replacing', 'leaving', 'applying', 'reverting')),
	CONSTRAINT "operations_owner_known" CHECK ("operations"."owner" in ('person', 'drain', 'resize', 'rollout', 'start-failed')),
	CONSTRAINT "operations_size_whole" CHECK (num_nulls("operations"."cpu_millis", "operations"."memory_bytes", "operations"."volume_bytes") in (0, 3))
);
--> statement-breakpoint
CREATE TABLE "service_resizes" (
	"service_id" text PRIMARY KEY NOT NULL,
	"cpu_millis" bigint,
	"memory_bytes" bigint,
	"volume_bytes" bigint,
	"may_move" boolean NOT NULL,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL
);
--> statement-breakpoint
ALTER TABLE "services" ADD COLUMN "target_revision" integer;--> statement-breakpoint
ALTER TABLE "services" ADD COLUMN "disruption" jsonb;--> statement-breakpoint
ALTER TABLE "sets" ADD COLUMN "last_operation" jsonb;--> statement-breakpoint
ALTER TABLE "sets" ADD COLUMN "ready_since" timestamp with time zone;--> statement-breakpoint
ALTER TABLE "sets" ADD COLUMN "was_ready" boolean DEFAULT false NOT NULL;--> statement-breakpoint
ALTER TABLE "drains" ADD CONSTRAINT "drains_host_id_hosts_id_fk" FOREIGN KEY ("host_id") REFERENCES "public"."hosts"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "operations" ADD CONSTRAINT "operations_set_id_sets_id_fk" FOREIGN KEY ("set_id") REFERENCES "public"."sets"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "service_resizes" ADD CONSTRAINT "service_resizes_service_id_services_id_fk" FOREIGN KEY ("service_id") REFERENCES "public"."services"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
CREATE INDEX "operations_service" ON "operations" USING btree ("service_id");--> statement-breakpoint
CREATE UNIQUE INDEX "operations_replacement_unique" ON "operations" USING btree ("replacement_set_id") WHERE replacement_set_id is not null;--> statement-breakpoint
INSERT INTO operations (set_id, service_id, kind, phase, owner, cpu_millis, memory_bytes, volume_bytes)
SELECT s.id, s.service_id, 'move', 'leaving', CASE WHEN s.attempts > 0 THEN 'start-failed' ELSE 'person' END,
  (r.template->>'cpuMillis')::bigint, (r.template->>'memoryBytes')::bigint, coalesce((r.template->'volume'->>'sizeBytes')::bigint, 0)
FROM sets s JOIN revisions r ON r.service_id = s.service_id AND r.number = s.revision
WHERE s.leaving AND s.host_id IS NOT NULL AND s.desired <> 'deleted';--> statement-breakpoint
INSERT INTO operations (set_id, service_id, kind, phase, owner, replacement_set_id)
SELECT DISTINCT ON (s.id) s.id, s.service_id, 'move', 'replacing', 'person', n.id
FROM sets n JOIN sets s ON s.id = n.replaces
WHERE n.deleted_at IS NULL AND n.desired <> 'deleted' AND s.deleted_at IS NULL AND s.desired <> 'deleted'
ORDER BY s.id, n.id ON CONFLICT DO NOTHING;--> statement-breakpoint
INSERT INTO operations (set_id, service_id, kind, phase, owner, may_move, blocked, cpu_millis, memory_bytes, volume_bytes)
SELECT s.id, s.service_id, CASE WHEN s.move_revision = s.revision THEN 'move' ELSE 'resize' END, 'waiting', 'person', true, s.held_back,
  (r.template->>'cpuMillis')::bigint, (r.template->>'memoryBytes')::bigint, coalesce((r.template->'volume'->>'sizeBytes')::bigint, 0)
FROM sets s JOIN revisions r ON r.service_id = s.service_id AND r.number = s.move_revision
WHERE s.move_revision IS NOT NULL AND s.host_id IS NOT NULL AND s.desired <> 'deleted' ON CONFLICT DO NOTHING;--> statement-breakpoint
INSERT INTO operations (set_id, service_id, kind, phase, owner, cpu_millis, memory_bytes, volume_bytes,
  former_cpu_millis, former_memory_bytes, former_volume_bytes)
SELECT s.id, s.service_id, 'resize', 'applying', 'resize',
  (r.template->>'cpuMillis')::bigint, (r.template->>'memoryBytes')::bigint, coalesce((r.template->'volume'->>'sizeBytes')::bigint, 0),
  (f.template->>'cpuMillis')::bigint, (f.template->>'memoryBytes')::bigint, coalesce((f.template->'volume'->>'sizeBytes')::bigint, 0)
FROM sets s JOIN revisions r ON r.service_id = s.service_id AND r.number = s.revision
JOIN revisions f ON f.service_id = s.service_id AND f.number = s.former_revision
WHERE NOT s.sized AND s.host_id IS NOT NULL AND s.desired <> 'deleted' ON CONFLICT DO NOTHING;
