-- Why: after a restore, agents report the addresses of sets that the database lacks. No other set gets them. A trigger quarantines
-- them when the host no longer reports the set, and when the host is deleted.
-- Locks: ACCESS EXCLUSIVE on addresses, hosts and unknown_sets for an instant. It scans addresses and hosts.
-- Rollback: drop the trigger, its function, the indexes, the constraints and the columns, and delete rows without a set_id. The
-- previous release runs on this schema.
ALTER TABLE "addresses" ALTER COLUMN "set_id" DROP NOT NULL;--> statement-breakpoint
ALTER TABLE "hosts" ADD COLUMN "addresses_unknown_since" timestamp with time zone;--> statement-breakpoint
ALTER TABLE "addresses" ADD COLUMN "unknown_set_id" text;--> statement-breakpoint
ALTER TABLE "addresses" ADD COLUMN "unknown_host_id" text;--> statement-breakpoint
CREATE INDEX "hosts_addresses_unknown" ON "hosts" USING btree ("addresses_unknown_since") WHERE addresses_unknown_since is not null;--> statement-breakpoint
CREATE INDEX "addresses_unknown" ON "addresses" USING btree ("unknown_host_id","unknown_set_id") WHERE unknown_set_id is not null;--> statement-breakpoint
ALTER TABLE "addresses" ADD CONSTRAINT "addresses_unknown_complete" CHECK (("addresses"."unknown_set_id" is null) = ("addresses"."unknown_host_id" is null));--> statement-breakpoint
ALTER TABLE "addresses" ADD CONSTRAINT "addresses_one_owner" CHECK (num_nonnulls("addresses"."set_id", "addresses"."unknown_set_id") < 2);--> statement-breakpoint
CREATE FUNCTION quarantine_unknown_addresses() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  UPDATE addresses SET state = 'quarantined', quarantined_at = now()
  WHERE unknown_host_id = OLD.host_id AND unknown_set_id = OLD.set_id AND state = 'assigned';
  RETURN NULL;
END
$$;--> statement-breakpoint
CREATE TRIGGER unknown_sets_quarantine_addresses AFTER DELETE ON unknown_sets FOR EACH ROW EXECUTE FUNCTION quarantine_unknown_addresses();
