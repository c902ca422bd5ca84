-- Why: gateways publish services without running their sets. A gateway has ports of its host for services, and an address in each
-- network of these. Triggers end them with the service or host. The next migration validates the checks.
-- Locks: in the order of placements, ACCESS EXCLUSIVE on services, hosts, host_ports and addresses. It builds small indexes, and reads
-- services, hosts, host_ports and addresses once for them.
-- Rollback: drop the triggers and their functions, and delete the rows of host_ports and addresses with a service_id or a
-- gateway_host_id. Subtract the latter from subnets.unavailable. Then drop the new columns, indexes and constraints, and create
-- the two dropped constraints again. The previous release runs on this schema.
ALTER TABLE "services" ADD COLUMN "gateway_ports" jsonb;--> statement-breakpoint
CREATE INDEX "services_published" ON "services" USING btree ("id") WHERE deleted_at is null and gateway_ports is not null;--> statement-breakpoint
CREATE FUNCTION release_service_host_ports() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  DELETE FROM host_ports WHERE service_id = NEW.id;
  RETURN NULL;
END
$$;--> statement-breakpoint
CREATE TRIGGER services_release_host_ports AFTER UPDATE OF deleted_at ON services FOR EACH ROW
WHEN (OLD.deleted_at IS NULL AND NEW.deleted_at IS NOT NULL) EXECUTE FUNCTION release_service_host_ports();--> statement-breakpoint
ALTER TABLE "hosts" ADD COLUMN "gateway_group" text;--> statement-breakpoint
CREATE INDEX "hosts_gateways" ON "hosts" USING btree ("id") WHERE gateway_group is not null;--> statement-breakpoint
CREATE FUNCTION quarantine_gateway_addresses() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  UPDATE addresses SET state = 'quarantined', quarantined_at = now() WHERE gateway_host_id = OLD.id AND state = 'assigned';
  RETURN NULL;
END
$$;--> statement-breakpoint
CREATE TRIGGER hosts_quarantine_addresses AFTER DELETE ON hosts FOR EACH ROW EXECUTE FUNCTION quarantine_gateway_addresses();--> statement-breakpoint
ALTER TABLE "host_ports" ALTER COLUMN "set_id" DROP NOT NULL;--> statement-breakpoint
ALTER TABLE "host_ports" ADD COLUMN "service_id" text;--> statement-breakpoint
ALTER TABLE "host_ports" ADD COLUMN "network_id" text;--> statement-breakpoint
CREATE INDEX "host_ports_service" ON "host_ports" USING btree ("service_id") WHERE service_id is not null;--> statement-breakpoint
ALTER TABLE "host_ports" ADD CONSTRAINT "host_ports_one_holder" CHECK (num_nonnulls("host_ports"."set_id", "host_ports"."service_id") = 1) NOT VALID;--> statement-breakpoint
ALTER TABLE "host_ports" ADD CONSTRAINT "host_ports_network_of_service" CHECK (("host_ports"."service_id" is null) = ("host_ports"."network_id" is null)) NOT VALID;--> statement-breakpoint
ALTER TABLE "addresses" DROP CONSTRAINT "addresses_index_unless_service";--> statement-breakpoint
ALTER TABLE "addresses" DROP CONSTRAINT "addresses_one_holder";--> statement-breakpoint
ALTER TABLE "addresses" ADD COLUMN "gateway_host_id" text;--> statement-breakpoint
ALTER TABLE "addresses" ADD COLUMN "gateway_left_at" timestamp with time zone;--> statement-breakpoint
CREATE UNIQUE INDEX "addresses_gateway_subnet_unique" ON "addresses" USING btree ("gateway_host_id","subnet_id") WHERE gateway_host_id is not null;--> statement-breakpoint
ALTER TABLE "addresses" ADD CONSTRAINT "addresses_index_of_set" CHECK ((coalesce("addresses"."service_id", "addresses"."gateway_host_id") is null) = ("addresses"."network_index" is not null)) NOT VALID;--> statement-breakpoint
ALTER TABLE "addresses" ADD CONSTRAINT "addresses_one_holder" CHECK (num_nonnulls("addresses"."set_id", "addresses"."unknown_set_id", "addresses"."service_id", "addresses"."gateway_host_id") < 2) NOT VALID;
