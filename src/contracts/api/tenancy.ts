import { z } from "zod";
import { generationSchema, idSchema, nameSchema, timestamp } from "../common/primitives.ts";
import { BYTES_MAX } from "../common/parse-bytes.ts";
import { CPU_MILLIS_MAX } from "../common/quantities.ts";

/**
 * admin: all operations on all tenants. operator: hosts, and the resources of all tenants, without
 * tokens and tenants. tenant: the resources of its own tenant. read: reads the resources of its own
 * tenant, or of all tenants if the token has none. hook: delivers alerts to one hook. enroll:
 * enrolls one host, once.
 */
export const tokenRoles = ["admin", "operator", "tenant", "read", "hook", "enroll"] as const;
export type TokenRole = (typeof tokenRoles)[number];

export const createTokenBody = z
  .strictObject({
    name: nameSchema,
    role: z.enum(["admin", "operator", "tenant", "read", "enroll"]),
    tenant: nameSchema.optional(),
    pool: nameSchema.optional().describe("For enroll tokens: the pool that the host joins."),
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
    usedAt: timestamp
      .nullable()
      .describe("For enroll tokens: the time at which a host used the token."),
  })
  .meta({ id: "Token" });
export type Token = z.infer<typeof tokenSchema>;

/** Only this response contains the secret. Berth stores its hash. */
export const createdTokenSchema = z
  .strictObject({ token: tokenSchema, secret: z.string() })
  .meta({ id: "CreatedToken" });

const OVERLAP_SECONDS_MAX = 30 * 86_400;

/** The previous secret stays valid for the overlap, so that its users can change to the new one. */
export const rotateBody = z
  .strictObject({
    overlapSeconds: z
      .number()
      .int()
      .min(0)
      .max(OVERLAP_SECONDS_MAX)
      .default(86_400)
      .describe("The previous secret stays valid for this time."),
  })
  .meta({ id: "Rotate" });

/** Only this response contains the secret of the new token. */
export const rotatedTokenSchema = z
  .strictObject({
    token: tokenSchema,
    secret: z.string(),
    former: tokenSchema.describe("The token that `token` replaces. It expires at its `expiresAt`."),
  })
  .meta({ id: "RotatedToken" });
export type RotatedToken = z.infer<typeof rotatedTokenSchema>;

const quotaBytes = z
  .number()
  .int()
  .min(0)
  .max(BYTES_MAX * 64);

/** Each member bounds the intent of the tenant's services, and its sets until they are removed. */
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
  trashBytesMax: quotaBytes.describe(
    "The size of trashed volumes. A tenant with a larger trash gets no new volumes.",
  ),
};

const wildcard = "*";
const granted = z
  .string()
  .max(127)
  .regex(
    /^(\*|[A-Za-z0-9][A-Za-z0-9._/-]*=(\*|[A-Za-z0-9._-]*))$/,
    'expected "key=value", "key=*" or "*"',
  );
const grantsMax = 64;
export const PRIORITY_DEFAULT = 100;

const grantsShape = {
  pools: z
    .array(z.union([z.literal(wildcard), nameSchema]))
    .max(grantsMax)
    .describe('Host pools that its services may name; "*" grants all.'),
  tolerations: z
    .array(granted)
    .max(grantsMax)
    .describe('Taints that its services may tolerate: "key=value", "key=*", or "*" for all.'),
  hostLabels: z
    .array(granted)
    .max(grantsMax)
    .describe('Host labels that its services may select by: "key=value", "key=*", or "*" for all.'),
  priorityMax: z
    .number()
    .int()
    .min(0)
    .max(1000)
    .describe("The highest priority that its services may have."),
};
const grantsSchema = z.strictObject(grantsShape).meta({ id: "Grants" });
export type Grants = z.infer<typeof grantsSchema>;

export const defaultGrants: Grants = {
  pools: ["default"],
  tolerations: [],
  hostLabels: [],
  priorityMax: PRIORITY_DEFAULT,
};
export const allGrants: Grants = {
  pools: [wildcard],
  tolerations: [wildcard],
  hostLabels: [wildcard],
  priorityMax: 1000,
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
    grants: z
      .strictObject({
        pools: grantsShape.pools.default(defaultGrants.pools),
        tolerations: grantsShape.tolerations.default(defaultGrants.tolerations),
        hostLabels: grantsShape.hostLabels.default(defaultGrants.hostLabels),
        priorityMax: grantsShape.priorityMax.default(defaultGrants.priorityMax),
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
    grants: grantsSchema,
    createdAt: timestamp,
  })
  .meta({ id: "Tenant" });
export type Tenant = z.infer<typeof tenantSchema>;

/** `PATCH /v1/tenants/{name}`: absent members stay unchanged. A list replaces the previous list. */
export const patchTenantBody = z
  .strictObject({
    quota: z.strictObject(quotaShape).partial().optional(),
    grants: z.strictObject(grantsShape).partial().optional(),
  })
  .refine(
    ({ quota = {}, grants = {} }) => Object.keys({ ...quota, ...grants }).length > 0,
    "expected at least one member of quota or grants",
  )
  .meta({ id: "PatchTenant" });
export type PatchTenant = z.infer<typeof patchTenantBody>;

/** The tenant after a change, and the consequences in sentences. */
export const tenantChangeSchema = z
  .strictObject({ tenant: tenantSchema, effects: z.array(z.string()) })
  .meta({ id: "TenantChange" });
export type TenantChange = z.infer<typeof tenantChangeSchema>;

const amountsSchema = z
  .strictObject({
    sets: z.number().int(),
    cpuMillis: z.number().int(),
    memoryBytes: z.number().int(),
    volumeBytes: z.number().int(),
    rootfsBytes: z.number().int(),
  })
  .meta({ id: "QuotaAmounts" });

/** A tenant with its usage: see docs/tenants.md. */
export const tenantDetailSchema = z
  .strictObject({
    ...tenantSchema.shape,
    use: z.strictObject({
      /** The sum of desired replicas times the newest template, without services in deletion. */
      intended: amountsSchema,
      /** The sum of all sets until their host reports them absent. */
      existing: amountsSchema,
      trashBytes: z.number().int(),
    }),
  })
  .meta({ id: "TenantDetail" });
export type TenantDetail = z.infer<typeof tenantDetailSchema>;
