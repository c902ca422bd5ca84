-- Why: a restored database lacks the newest sets, whose containers run on. Their agents report them, and an operator decides.
-- Locks: SHARE ROW EXCLUSIVE on hosts for the foreign key. The new table is empty.
-- Rollback: drop the table. The previous release runs on this schema. Under its API, agents remove unlisted sets as before.
CREATE TABLE "unknown_sets" (
	"host_id" text NOT NULL,
	"set_id" text NOT NULL,
	"first_reported_at" timestamp with time zone DEFAULT now() NOT NULL,
	"deletion_ordered_at" timestamp with time zone,
	CONSTRAINT "unknown_sets_pkey" PRIMARY KEY("host_id","set_id")
);
--> statement-breakpoint
ALTER TABLE "unknown_sets" ADD CONSTRAINT "unknown_sets_host_id_hosts_id_fk" FOREIGN KEY ("host_id") REFERENCES "public"."hosts"("id") ON DELETE cascade ON UPDATE no action;