-- Why: sets with published ports have ports of their hosts. A trigger frees them when a set leaves its host, even if a process of
-- the previous release stores the report.
-- Locks: SHARE ROW EXCLUSIVE on hosts for the foreign key, and on sets for the trigger, both for an instant. The table is empty.
-- Rollback: drop the trigger on sets, its function and the table host_ports. The previous release runs on this schema.
CREATE TABLE "host_ports" (
	"host_id" text NOT NULL,
	"protocol" text NOT NULL,
	"port" integer NOT NULL,
	"set_id" text NOT NULL,
	"name" text NOT NULL,
	CONSTRAINT "host_ports_pkey" PRIMARY KEY("host_id","protocol","port"),
	CONSTRAINT "host_ports_protocol_known" CHECK ("host_ports"."protocol" in ('tcp', 'udp')),
	CONSTRAINT "host_ports_port_valid" CHECK ("host_ports"."port" between 1 and 65535)
);
--> statement-breakpoint
ALTER TABLE "host_ports" ADD CONSTRAINT "host_ports_host_id_hosts_id_fk" FOREIGN KEY ("host_id") REFERENCES "public"."hosts"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
CREATE UNIQUE INDEX "host_ports_set_name_unique" ON "host_ports" USING btree ("set_id","name");--> statement-breakpoint
CREATE INDEX "host_ports_port" ON "host_ports" USING btree ("port","protocol");--> statement-breakpoint
CREATE FUNCTION release_host_ports() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  DELETE FROM host_ports WHERE set_id = NEW.id;
  RETURN NULL;
END
$$;--> statement-breakpoint
CREATE TRIGGER sets_release_host_ports AFTER UPDATE OF host_id ON sets FOR EACH ROW
WHEN (OLD.host_id IS NOT NULL AND NEW.host_id IS NULL) EXECUTE FUNCTION release_host_ports();
