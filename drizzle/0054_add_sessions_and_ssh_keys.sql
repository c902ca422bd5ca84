-- Why: each session with a container has an audit row, which also bounds the sessions of a host and of a token (I24). Tenants get keys for
-- the SSH gateway.
-- Locks: SHARE ROW EXCLUSIVE on tenants for the foreign keys, for an instant.
-- The previous release runs on this schema.
-- Rollback: drop both tables.
CREATE TABLE "sessions" (
	"id" text PRIMARY KEY NOT NULL,
	"tenant_id" text NOT NULL,
	"service_id" text NOT NULL,
	"set_id" text NOT NULL,
	"host_id" text NOT NULL,
	"container" text,
	"kind" text NOT NULL,
	"state" text DEFAULT 'requested' NOT NULL,
	"by_token_id" text,
	"by_name" text,
	"client" text,
	"exit_code" integer,
	"reason" jsonb,
	"bytes_in" bigint DEFAULT 0 NOT NULL,
	"bytes_out" bigint DEFAULT 0 NOT NULL,
	"recording" text,
	"requested_at" timestamp with time zone DEFAULT now() NOT NULL,
	"opened_at" timestamp with time zone,
	"ended_at" timestamp with time zone,
	CONSTRAINT "sessions_kind_known" CHECK ("sessions"."kind" in ('exec', 'attach', 'copy-in', 'copy-out', 'port-forward', 'transfer')),
	CONSTRAINT "sessions_state_known" CHECK ("sessions"."state" in ('requested', 'open', 'ended')),
	CONSTRAINT "sessions_client_known" CHECK ("sessions"."client" in ('cli', 'ssh')),
	CONSTRAINT "sessions_end_has_time" CHECK (("sessions"."state" = 'ended') = ("sessions"."ended_at" is not null)),
	CONSTRAINT "sessions_container_unless_transfer" CHECK (("sessions"."kind" = 'transfer') = ("sessions"."container" is null)),
	CONSTRAINT "sessions_not_in_infra" CHECK ("sessions"."container" <> 'infra')
);
--> statement-breakpoint
CREATE TABLE "ssh_keys" (
	"id" text PRIMARY KEY NOT NULL,
	"tenant_id" text NOT NULL,
	"name" text NOT NULL,
	"algorithm" text NOT NULL,
	"fingerprint" text NOT NULL,
	"public_key" text NOT NULL,
	"role" text NOT NULL,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	"last_used_at" timestamp with time zone,
	"revoked_at" timestamp with time zone,
	CONSTRAINT "ssh_keys_role_known" CHECK ("ssh_keys"."role" in ('tenant', 'read'))
);
--> statement-breakpoint
ALTER TABLE "sessions" ADD CONSTRAINT "sessions_tenant_id_tenants_id_fk" FOREIGN KEY ("tenant_id") REFERENCES "public"."tenants"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "ssh_keys" ADD CONSTRAINT "ssh_keys_tenant_id_tenants_id_fk" FOREIGN KEY ("tenant_id") REFERENCES "public"."tenants"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
CREATE INDEX "sessions_tenant" ON "sessions" USING btree ("tenant_id","id");--> statement-breakpoint
CREATE INDEX "sessions_host_open" ON "sessions" USING btree ("host_id") WHERE ended_at is null;--> statement-breakpoint
CREATE INDEX "sessions_token_open" ON "sessions" USING btree ("by_token_id") WHERE ended_at is null;--> statement-breakpoint
CREATE INDEX "sessions_ended" ON "sessions" USING btree ("ended_at") WHERE ended_at is not null;--> statement-breakpoint
CREATE UNIQUE INDEX "ssh_keys_fingerprint_unique" ON "ssh_keys" USING btree ("tenant_id","fingerprint") WHERE revoked_at is null;--> statement-breakpoint
CREATE UNIQUE INDEX "ssh_keys_name_unique" ON "ssh_keys" USING btree ("tenant_id","name") WHERE revoked_at is null;--> statement-breakpoint
CREATE INDEX "ssh_keys_tenant" ON "ssh_keys" USING btree ("tenant_id");