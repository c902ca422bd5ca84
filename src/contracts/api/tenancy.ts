import { z } from "zod";
import { generationSchema, idSchema, nameSchema, timestamp } from "../common/primitives.ts";
import { BYTES_MAX, CPU_MILLIS_MAX } from "../common/quantities.ts";

/**
 * admin: everything, all tenants. operator: hosts and all tenants' things, but no tokens or tenants.
 * tenant: its own services. read: looks at its own tenant's things (or at all, when it has no tenant).
 * hook: delivers alerts to one hook. enroll: enrolls one host, once.
 */
export const tokenRoles = ["admin", "operator", "tenant", "read", "hook", "enroll"] as const;
export type TokenRole = (typeof tokenRoles)[number];

export const createTokenBody = z
  .strictObject({
    name: nameSchema,
    role: z.enum(["admin", "operator", "tenant", "read", "enroll"]),
    tenant: nameSchema.optional(),
    /** Of enroll tokens: the pool that the host joins. */
    pool: nameSchema.optional(),
    expiresInSeconds: z
      .number()
      .int()
      .min(60)
      .max(10 * 365 * 86_400)
      .optional(),
  })
  .superRefine((token, context) => {
    if (token.role === "tenant" && token.tenant === undefined) {
      context.addIssue({
        code: "custom",
        path: ["tenant"],
        message: "a tenant token needs a tenant",
      });
    }
    if (["admin", "operator", "enroll"].includes(token.role) && token.tenant !== undefined) {
      context.addIssue({
        code: "custom",
        path: ["tenant"],
        message: `a token of role ${token.role} has no tenant`,
      });
    }
    if (token.role !== "enroll" && token.pool !== undefined) {
      context.addIssue({
        code: "custom",
        path: ["pool"],
        message: "only enroll tokens have a pool",
      });
    }
  })
  .meta({ id: "CreateToken" });
export type CreateToken = z.infer<typeof createTokenBody>;

export const tokenSchema = z
  .strictObject({
    id: idSchema("tok"),
    name: nameSchema,
    role: z.enum(tokenRoles),
    tenant: nameSchema.nullable(),
    createdAt: timestamp,
    expiresAt: timestamp.nullable(),
    revokedAt: timestamp.nullable(),
    /** Of enroll tokens: when a host used it. */
    usedAt: timestamp.nullable(),
  })
  .meta({ id: "Token" });
export type Token = z.infer<typeof tokenSchema>;

/** `secret` is shown this once; only its hash is kept. */
export const createdTokenSchema = z
  .strictObject({ token: tokenSchema, secret: z.string() })
  .meta({ id: "CreatedToken" });

const quotaBytes = z
  .number()
  .int()
  .min(0)
  .max(BYTES_MAX * 64);

/** Each member bounds what the tenant's services intend, and what its sets have until they are removed. */
const quotaShape = {
  setsMax: z.number().int().min(0).max(1_000_000),
  cpuMillisMax: z
    .number()
    .int()
    .min(0)
    .max(CPU_MILLIS_MAX * 1_000),
  memoryBytesMax: quotaBytes,
  volumeBytesMax: quotaBytes,
  rootfsBytesMax: quotaBytes,
  /** Of trashed volumes until they are purged. A tenant whose trash is larger gets no new volumes. */
  trashBytesMax: quotaBytes,
};

export const createTenantBody = z
  .strictObject({
    name: nameSchema,
    quota: z
      .strictObject({
        setsMax: quotaShape.setsMax.default(1_000),
        cpuMillisMax: quotaShape.cpuMillisMax.default(1_000_000),
        memoryBytesMax: quotaBytes.default(4 * 2 ** 40),
        volumeBytesMax: quotaBytes.default(64 * 2 ** 40),
        rootfsBytesMax: quotaBytes.default(64 * 2 ** 40),
        trashBytesMax: quotaBytes.default(16 * 2 ** 40),
      })
      .prefault({}),
  })
  .meta({ id: "CreateTenant" });
export type CreateTenant = z.infer<typeof createTenantBody>;

const quotaSchema = z
  .strictObject({
    setsMax: z.number().int(),
    cpuMillisMax: z.number().int(),
    memoryBytesMax: z.number().int(),
    volumeBytesMax: z.number().int(),
    rootfsBytesMax: z.number().int(),
    trashBytesMax: z.number().int(),
  })
  .meta({ id: "Quota" });
export type Quota = z.infer<typeof quotaSchema>;

export const tenantSchema = z
  .strictObject({
    id: idSchema("tnt"),
    name: nameSchema,
    generation: generationSchema,
    quota: quotaSchema,
    createdAt: timestamp,
  })
  .meta({ id: "Tenant" });
export type Tenant = z.infer<typeof tenantSchema>;
