-- Why: demands of one rule share one base, and a service is decided when it is due instead of by a scan of all services.
-- Backfill: each held demand gets the rule and the want that match its labels, so that former demands stop compounding, and
-- each service with held demands becomes due. A demand that no rule matches any more keeps its absolute number.
-- Locks: ACCESS EXCLUSIVE on demands and hooks for the columns, which have constant defaults, then SHARE on demands while it
-- builds one index. The previous release runs on this schema: its inserts get the defaults.
-- Rollback: drop table autoscale_states, index demands_released_of_hook, and the columns that this file adds.
CREATE TABLE "autoscale_states" (
	"service_id" text PRIMARY KEY NOT NULL,
	"due_at" timestamp with time zone,
	"attempts" integer DEFAULT 0 NOT NULL,
	"scaled_out_at" timestamp with time zone,
	"scaled_in_at" timestamp with time zone,
	"steps_taken" jsonb DEFAULT '{}'::jsonb NOT NULL
);
--> statement-breakpoint
ALTER TABLE "demands" ADD COLUMN "rule" text DEFAULT '' NOT NULL;--> statement-breakpoint
ALTER TABLE "demands" ADD COLUMN "identity" text DEFAULT '' NOT NULL;--> statement-breakpoint
ALTER TABLE "demands" ADD COLUMN "want" jsonb;--> statement-breakpoint
ALTER TABLE "demands" ADD COLUMN "hold_max_seconds" integer;--> statement-breakpoint
ALTER TABLE "demands" ADD COLUMN "last_received_at" timestamp with time zone DEFAULT now() NOT NULL;--> statement-breakpoint
ALTER TABLE "hooks" ADD COLUMN "truncated_at" timestamp with time zone;--> statement-breakpoint
ALTER TABLE "autoscale_states" ADD CONSTRAINT "autoscale_states_service_id_services_id_fk" FOREIGN KEY ("service_id") REFERENCES "public"."services"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
CREATE INDEX "autoscale_states_due" ON "autoscale_states" USING btree ("due_at") WHERE due_at is not null;--> statement-breakpoint
CREATE INDEX "demands_released_of_hook" ON "demands" USING btree ("hook_id","release_at") WHERE state = 'released';--> statement-breakpoint
WITH rules AS (
  SELECT h.id AS hook_id, r.position, r.rule->'want' AS want, coalesce(r.rule->'match', '{}') AS match,
    '[' || coalesce((SELECT string_agg('[' || to_json(m.key)::text || ',' || to_json(m.value)::text || ']', ',' ORDER BY m.key COLLATE "C")
      FROM jsonb_each_text(coalesce(r.rule->'match', '{}')) m), '') || ']' AS name
  FROM hooks h, jsonb_array_elements(h.rules) WITH ORDINALITY AS r(rule, position)
)
UPDATE demands d SET want = f.want,
  rule = CASE WHEN length(f.name) > 200 THEN encode(sha256(convert_to(f.name, 'UTF8')), 'hex') ELSE f.name END
FROM demands h CROSS JOIN LATERAL (
  SELECT r.want, r.name FROM rules r WHERE r.hook_id = h.hook_id AND h.labels @> r.match ORDER BY r.position LIMIT 1
) f
WHERE h.id = d.id AND d.state <> 'released';--> statement-breakpoint
INSERT INTO autoscale_states (service_id, due_at)
SELECT DISTINCT service_id, now() FROM demands WHERE state <> 'released';
