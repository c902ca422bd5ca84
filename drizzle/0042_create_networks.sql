-- Why: tenants have virtual networks with subnets, and sets have addresses of these subnets.
-- Locks: SHARE ROW EXCLUSIVE on tenants for the foreign key. The new tables are empty.
-- Rollback: drop the tables addresses, subnets and networks, then the sequence network_vnis. The previous release runs on
-- this schema.
CREATE SEQUENCE "public"."network_vnis" INCREMENT BY 1 MINVALUE 4097 MAXVALUE 16777215 START WITH 4097 CACHE 1 CYCLE;--> statement-breakpoint
CREATE TABLE "addresses" (
	"subnet_id" text NOT NULL,
	"address" "inet" NOT NULL,
	"set_id" text NOT NULL,
	"network_index" smallint NOT NULL,
	"mac" text NOT NULL,
	"state" text DEFAULT 'assigned' NOT NULL,
	"quarantined_at" timestamp with time zone,
	CONSTRAINT "addresses_pkey" PRIMARY KEY("subnet_id","address"),
	CONSTRAINT "addresses_state_known" CHECK ("addresses"."state" in ('assigned', 'quarantined')),
	CONSTRAINT "addresses_time_if_quarantined" CHECK (("addresses"."state" = 'quarantined') = ("addresses"."quarantined_at" is not null))
);
--> statement-breakpoint
CREATE TABLE "networks" (
	"id" text PRIMARY KEY NOT NULL,
	"tenant_id" text NOT NULL,
	"name" text NOT NULL,
	"generation" bigint DEFAULT 1 NOT NULL,
	"vni" integer NOT NULL,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL
);
--> statement-breakpoint
CREATE TABLE "subnets" (
	"id" text PRIMARY KEY NOT NULL,
	"network_id" text NOT NULL,
	"family" smallint NOT NULL,
	"cidr" "cidr" NOT NULL,
	"gateway" "inet" NOT NULL,
	"pools" jsonb NOT NULL,
	"reservations" jsonb NOT NULL,
	"ranges" jsonb NOT NULL,
	"usable" bigint NOT NULL,
	"unavailable" bigint DEFAULT 0 NOT NULL,
	"last_offset" bigint DEFAULT 0 NOT NULL,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "subnets_family_known" CHECK ("subnets"."family" in (4, 6)),
	CONSTRAINT "subnets_unavailable_within_usable" CHECK ("subnets"."unavailable" between 0 and "subnets"."usable")
);
--> statement-breakpoint
ALTER TABLE "addresses" ADD CONSTRAINT "addresses_subnet_id_subnets_id_fk" FOREIGN KEY ("subnet_id") REFERENCES "public"."subnets"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "networks" ADD CONSTRAINT "networks_tenant_id_tenants_id_fk" FOREIGN KEY ("tenant_id") REFERENCES "public"."tenants"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "subnets" ADD CONSTRAINT "subnets_network_id_networks_id_fk" FOREIGN KEY ("network_id") REFERENCES "public"."networks"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
CREATE UNIQUE INDEX "addresses_set_unique" ON "addresses" USING btree ("set_id","network_index","subnet_id") WHERE state = 'assigned';--> statement-breakpoint
CREATE INDEX "addresses_quarantined" ON "addresses" USING btree ("subnet_id","quarantined_at") WHERE state = 'quarantined';--> statement-breakpoint
CREATE UNIQUE INDEX "networks_name_unique" ON "networks" USING btree ("tenant_id","name");--> statement-breakpoint
CREATE UNIQUE INDEX "networks_vni_unique" ON "networks" USING btree ("vni");--> statement-breakpoint
CREATE UNIQUE INDEX "subnets_family_unique" ON "subnets" USING btree ("network_id","family");