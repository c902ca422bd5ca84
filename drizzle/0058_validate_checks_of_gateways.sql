-- Why: validates the checks of the previous migration, which new rows satisfy already.
-- Locks: SHARE UPDATE EXCLUSIVE on host_ports and addresses while it reads them. Placements continue.
-- Rollback: none is needed.
ALTER TABLE "host_ports" VALIDATE CONSTRAINT "host_ports_one_holder";--> statement-breakpoint
ALTER TABLE "host_ports" VALIDATE CONSTRAINT "host_ports_network_of_service";--> statement-breakpoint
ALTER TABLE "addresses" VALIDATE CONSTRAINT "addresses_index_of_set";--> statement-breakpoint
ALTER TABLE "addresses" VALIDATE CONSTRAINT "addresses_one_holder";
