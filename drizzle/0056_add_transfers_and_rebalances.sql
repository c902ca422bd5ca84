-- Why: a set may move with the data of its volume, Berth may rebalance a pool, and a set may displace others of a lower priority.
-- Locks: ACCESS EXCLUSIVE on host_pools, services and sets for the columns, and SHARE ROW EXCLUSIVE on hosts and sets for the foreign
-- keys, each for an instant.
-- The previous release runs on this schema. It must not see operations of these kinds of moves: start none before every process runs
-- this release.
-- Rollback: drop both tables and the new columns.
CREATE TABLE "rebalances" (
	"id" text PRIMARY KEY NOT NULL,
	"pool" text NOT NULL,
	"goal" text NOT NULL,
	"state" text NOT NULL,
	"moves" jsonb NOT NULL,
	"gain" bigint NOT NULL,
	"cost" jsonb NOT NULL,
	"moved" integer DEFAULT 0 NOT NULL,
	"reason" jsonb,
	"by_name" text,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	"ended_at" timestamp with time zone,
	CONSTRAINT "rebalances_goal_known" CHECK ("rebalances"."goal" in ('pack', 'spread')),
	CONSTRAINT "rebalances_state_known" CHECK ("rebalances"."state" in ('planned', 'running', 'ended', 'canceled'))
);
--> statement-breakpoint
CREATE TABLE "transfers" (
	"id" text PRIMARY KEY NOT NULL,
	"set_id" text NOT NULL,
	"volume_id" text NOT NULL,
	"from_host_id" text NOT NULL,
	"to_host_id" text NOT NULL,
	"pass" integer DEFAULT 1 NOT NULL,
	"state" text DEFAULT 'requested' NOT NULL,
	"total_bytes" bigint,
	"copied_bytes" bigint DEFAULT 0 NOT NULL,
	"checksum" text,
	"bytes_per_second" bigint,
	"reason" jsonb,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	"updated_at" timestamp with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "transfers_state_known" CHECK ("transfers"."state" in ('requested', 'copying', 'copied', 'failed')),
	CONSTRAINT "transfers_between_hosts" CHECK ("transfers"."from_host_id" <> "transfers"."to_host_id")
);
--> statement-breakpoint
ALTER TABLE "host_pools" ADD COLUMN "rebalance" jsonb;--> statement-breakpoint
ALTER TABLE "services" ADD COLUMN "volume_moves" jsonb;--> statement-breakpoint
ALTER TABLE "sets" ADD COLUMN "nominated_host_id" text;--> statement-breakpoint
ALTER TABLE "sets" ADD COLUMN "nominated_until" timestamp with time zone;--> statement-breakpoint
ALTER TABLE "transfers" ADD CONSTRAINT "transfers_set_id_sets_id_fk" FOREIGN KEY ("set_id") REFERENCES "public"."sets"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "transfers" ADD CONSTRAINT "transfers_from_host_id_hosts_id_fk" FOREIGN KEY ("from_host_id") REFERENCES "public"."hosts"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "transfers" ADD CONSTRAINT "transfers_to_host_id_hosts_id_fk" FOREIGN KEY ("to_host_id") REFERENCES "public"."hosts"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
CREATE INDEX "rebalances_pool" ON "rebalances" USING btree ("pool","id");--> statement-breakpoint
CREATE INDEX "rebalances_running" ON "rebalances" USING btree ("id") WHERE state = 'running';--> statement-breakpoint
CREATE INDEX "rebalances_ended" ON "rebalances" USING btree ("ended_at") WHERE ended_at is not null;--> statement-breakpoint
CREATE INDEX "transfers_set" ON "transfers" USING btree ("set_id");--> statement-breakpoint
CREATE INDEX "transfers_from_host" ON "transfers" USING btree ("from_host_id");--> statement-breakpoint
CREATE INDEX "transfers_to_host" ON "transfers" USING btree ("to_host_id");