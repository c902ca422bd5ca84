-- Why: the schema states the oldest build that may run on it, so that a process of the previous release starts on a newer schema.
-- Locks: none on existing tables. The previous release does not read the table.
-- Rollback: drop the table.
CREATE TABLE "schema_compatibility" (
	"is_only_row" boolean PRIMARY KEY DEFAULT true NOT NULL,
	"migrations_min" integer NOT NULL,
	CONSTRAINT "schema_compatibility_one_row" CHECK ("schema_compatibility"."is_only_row")
);--> statement-breakpoint
INSERT INTO "schema_compatibility" ("migrations_min") VALUES (23);
