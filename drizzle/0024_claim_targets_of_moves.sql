-- Why: a set that stops before it moves needs capacity on its next host from that moment. A claim books it. The index finds sets that the
-- previous release removes from their hosts, so that this release can finish those moves.
-- Locks: SHARE on sets while the index is built, which reads the table once. The new table is empty.
-- The previous release runs on this schema: it ignores claims, and the sums of the hosts contain them.
-- Rollback: subtract the claims from allocated_* of their hosts, then drop the table and the index.
CREATE TABLE "claims" (
	"set_id" text PRIMARY KEY NOT NULL,
	"host_id" text NOT NULL,
	"cpu_millis" bigint NOT NULL,
	"memory_bytes" bigint NOT NULL,
	"volume_bytes" bigint NOT NULL,
	"rootfs_bytes" bigint NOT NULL,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL
);
--> statement-breakpoint
ALTER TABLE "claims" ADD CONSTRAINT "claims_set_id_sets_id_fk" FOREIGN KEY ("set_id") REFERENCES "public"."sets"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "claims" ADD CONSTRAINT "claims_host_id_hosts_id_fk" FOREIGN KEY ("host_id") REFERENCES "public"."hosts"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
CREATE INDEX "claims_host" ON "claims" USING btree ("host_id");--> statement-breakpoint
CREATE INDEX "sets_leaving" ON "sets" USING btree ("id") WHERE leaving;