-- Why: after a restore, agents report the host ports of sets that the database lacks. No other set of the host gets them. A trigger
-- frees them when the host no longer reports the set. The end of a booking of the same set on another host leaves them.
-- Locks: ACCESS EXCLUSIVE on host_ports, and SHARE ROW EXCLUSIVE on unknown_sets, both for an instant.
-- Rollback: delete the rows of host_ports without a name, drop the trigger on unknown_sets and its function, and set NOT NULL again.
-- The previous release runs on this schema.
ALTER TABLE "host_ports" ALTER COLUMN "name" DROP NOT NULL;--> statement-breakpoint
CREATE OR REPLACE FUNCTION release_host_ports() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  DELETE FROM host_ports WHERE set_id = NEW.id AND name IS NOT NULL;
  RETURN NULL;
END
$$;--> statement-breakpoint
CREATE FUNCTION release_unknown_host_ports() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  DELETE FROM host_ports WHERE host_id = OLD.host_id AND set_id = OLD.set_id AND name IS NULL;
  RETURN NULL;
END
$$;--> statement-breakpoint
CREATE TRIGGER unknown_sets_release_host_ports AFTER DELETE ON unknown_sets FOR EACH ROW EXECUTE FUNCTION release_unknown_host_ports();
