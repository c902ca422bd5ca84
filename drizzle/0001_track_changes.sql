-- Why: job workers keep the fleet in memory and ask only for what changed since they last looked. A trigger stamps the
-- transaction id, so that no query can forget to. `update of` keeps lease renewals (the most frequent update) out.
-- Locks: brief ACCESS EXCLUSIVE on both tables. Rollback: drop both triggers and the function.
CREATE FUNCTION stamp_changed_xid() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  NEW.changed_xid := pg_current_xact_id();
  RETURN NEW;
END
$$;--> statement-breakpoint
CREATE TRIGGER hosts_stamp_changed_xid BEFORE UPDATE OF
  pool, zone, rack, labels, taints, state, cordoned, draining, images, reported_at, reclaimable_volume_bytes,
  allocatable_cpu_millis, allocatable_memory_bytes, allocatable_volume_bytes, allocatable_rootfs_bytes,
  allocated_cpu_millis, allocated_memory_bytes, allocated_volume_bytes, allocated_rootfs_bytes,
  unreported_cpu_millis, unreported_memory_bytes, unreported_volume_bytes, unreported_rootfs_bytes,
  used_cpu_millis, used_memory_bytes, used_volume_bytes, used_rootfs_bytes
ON hosts FOR EACH ROW EXECUTE FUNCTION stamp_changed_xid();--> statement-breakpoint
CREATE TRIGGER sets_stamp_changed_xid BEFORE UPDATE OF host_id ON sets
FOR EACH ROW EXECUTE FUNCTION stamp_changed_xid();
