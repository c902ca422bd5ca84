-- Why: sets on networked hosts have addresses. A trigger quarantines them when a set leaves its host, even if a process of the
-- previous release stores the report.
-- Locks: SHARE on hosts while it builds the index, and SHARE ROW EXCLUSIVE on sets for an instant. The table addresses is empty.
-- Rollback: drop the trigger on sets, its function and the index hosts_networked. The previous release runs on this schema.
DROP INDEX "addresses_set_unique";--> statement-breakpoint
CREATE INDEX "hosts_networked" ON "hosts" USING btree ("id") WHERE capabilities->'features' @> '["networks"]';--> statement-breakpoint
CREATE UNIQUE INDEX "addresses_set_subnet_unique" ON "addresses" USING btree ("set_id","subnet_id");--> statement-breakpoint
CREATE FUNCTION quarantine_addresses() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  UPDATE addresses SET state = 'quarantined', quarantined_at = now() WHERE set_id = NEW.id AND state = 'assigned';
  RETURN NULL;
END
$$;--> statement-breakpoint
CREATE TRIGGER sets_quarantine_addresses AFTER UPDATE OF host_id ON sets FOR EACH ROW
WHEN (OLD.host_id IS NOT NULL AND NEW.host_id IS NULL) EXECUTE FUNCTION quarantine_addresses();
