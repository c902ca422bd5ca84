-- Why: a service has an address in each network of its template, claimed in the same table as the addresses of sets. A trigger
-- quarantines it with the deletion of the service.
-- Locks: ACCESS EXCLUSIVE on addresses and services for the columns, each briefly. SHARE on services while it builds the index,
-- and SHARE ROW EXCLUSIVE for an instant for the trigger. The checks read the table addresses.
-- Rollback: drop the trigger on services and its function, delete the rows of addresses with a service_id and subtract them from
-- subnets.unavailable. Then drop the new columns and constraints. The previous release runs on this schema.
ALTER TABLE "addresses" DROP CONSTRAINT "addresses_one_owner";--> statement-breakpoint
ALTER TABLE "addresses" ALTER COLUMN "network_index" DROP NOT NULL;--> statement-breakpoint
ALTER TABLE "addresses" ADD COLUMN "service_id" text;--> statement-breakpoint
ALTER TABLE "services" ADD COLUMN "addressed_revision" integer;--> statement-breakpoint
ALTER TABLE "services" ADD COLUMN "unaddressed_revision" integer;--> statement-breakpoint
CREATE UNIQUE INDEX "addresses_service_subnet_unique" ON "addresses" USING btree ("service_id","subnet_id") WHERE service_id is not null;--> statement-breakpoint
CREATE INDEX "services_unaddressed" ON "services" USING btree ("id") WHERE deleted_at is null and not deleting and addressed_revision is distinct from revision;--> statement-breakpoint
ALTER TABLE "addresses" ADD CONSTRAINT "addresses_one_holder" CHECK (num_nonnulls("addresses"."set_id", "addresses"."unknown_set_id", "addresses"."service_id") < 2);--> statement-breakpoint
ALTER TABLE "addresses" ADD CONSTRAINT "addresses_index_unless_service" CHECK (("addresses"."service_id" is null) = ("addresses"."network_index" is not null));--> statement-breakpoint
CREATE FUNCTION quarantine_service_addresses() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  UPDATE addresses SET state = 'quarantined', quarantined_at = now() WHERE service_id = NEW.id AND state = 'assigned';
  RETURN NULL;
END
$$;--> statement-breakpoint
CREATE TRIGGER services_quarantine_addresses AFTER UPDATE OF deleted_at ON services FOR EACH ROW
WHEN (OLD.deleted_at IS NULL AND NEW.deleted_at IS NOT NULL) EXECUTE FUNCTION quarantine_service_addresses();
