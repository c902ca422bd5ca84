-- Why: tenants store credentials for private registries. Passwords are encrypted with a key that the database does not have.
-- Locks: SHARE ROW EXCLUSIVE on tenants for the foreign key. The new table is empty.
-- Rollback: drop the table. The previous release runs on this schema, and its agents pull anonymously.
CREATE TABLE "registry_credentials" (
	"id" text PRIMARY KEY NOT NULL,
	"tenant_id" text NOT NULL,
	"registry" text NOT NULL,
	"username" text NOT NULL,
	"key_id" text NOT NULL,
	"ciphertext" text NOT NULL,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	"updated_at" timestamp with time zone DEFAULT now() NOT NULL
);
--> statement-breakpoint
ALTER TABLE "registry_credentials" ADD CONSTRAINT "registry_credentials_tenant_id_tenants_id_fk" FOREIGN KEY ("tenant_id") REFERENCES "public"."tenants"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
CREATE UNIQUE INDEX "registry_credentials_registry_unique" ON "registry_credentials" USING btree ("tenant_id","registry");