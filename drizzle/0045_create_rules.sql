-- Why: networks have firewall rules. The counters tell hosts of a change, and of open connections that it ends.
-- Locks: SHARE ROW EXCLUSIVE on tenants, networks and services for the foreign keys, and ACCESS EXCLUSIVE on networks for the
-- new columns, each briefly: no row is read or rewritten.
-- Rollback: drop the table rules, and the columns rules_version and end_connections_count of networks. The previous release
-- runs on this schema, and enforces no rules.
CREATE TABLE "rules" (
	"id" text PRIMARY KEY NOT NULL,
	"tenant_id" text NOT NULL,
	"network_id" text NOT NULL,
	"name" text NOT NULL,
	"generation" bigint DEFAULT 1 NOT NULL,
	"direction" text NOT NULL,
	"action" text NOT NULL,
	"protocol" text NOT NULL,
	"ports" jsonb NOT NULL,
	"service_id" text,
	"peer_kind" text NOT NULL,
	"peer_cidr" text,
	"peer_service_id" text,
	"priority" smallint NOT NULL,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	"updated_at" timestamp with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "rules_direction_known" CHECK ("rules"."direction" in ('ingress', 'egress')),
	CONSTRAINT "rules_action_known" CHECK ("rules"."action" in ('allow', 'deny')),
	CONSTRAINT "rules_protocol_known" CHECK ("rules"."protocol" in ('any', 'tcp', 'udp', 'icmp')),
	CONSTRAINT "rules_peer_kind_known" CHECK ("rules"."peer_kind" in ('any', 'cidr', 'service', 'network')),
	CONSTRAINT "rules_peer_matches_kind" CHECK (("rules"."peer_kind" = 'cidr') = ("rules"."peer_cidr" is not null) and ("rules"."peer_kind" = 'service') = ("rules"."peer_service_id" is not null)),
	CONSTRAINT "rules_ports_need_transport" CHECK ("rules"."protocol" in ('tcp', 'udp') or "rules"."ports" = '[]'::jsonb),
	CONSTRAINT "rules_priority_within_limits" CHECK ("rules"."priority" between 0 and 9999)
);
--> statement-breakpoint
ALTER TABLE "networks" ADD COLUMN "rules_version" bigint DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE "networks" ADD COLUMN "end_connections_count" bigint DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE "rules" ADD CONSTRAINT "rules_tenant_id_tenants_id_fk" FOREIGN KEY ("tenant_id") REFERENCES "public"."tenants"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "rules" ADD CONSTRAINT "rules_network_id_networks_id_fk" FOREIGN KEY ("network_id") REFERENCES "public"."networks"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "rules" ADD CONSTRAINT "rules_service_id_services_id_fk" FOREIGN KEY ("service_id") REFERENCES "public"."services"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "rules" ADD CONSTRAINT "rules_peer_service_id_services_id_fk" FOREIGN KEY ("peer_service_id") REFERENCES "public"."services"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
CREATE UNIQUE INDEX "rules_name_unique" ON "rules" USING btree ("tenant_id","name");--> statement-breakpoint
CREATE INDEX "rules_network" ON "rules" USING btree ("network_id","id");--> statement-breakpoint
CREATE INDEX "rules_service" ON "rules" USING btree ("service_id") WHERE service_id is not null;--> statement-breakpoint
CREATE INDEX "rules_peer_service" ON "rules" USING btree ("peer_service_id") WHERE peer_service_id is not null;