import { z } from "zod";
import { labelsSchema, nameSchema, taintSchema } from "../common/primitives.ts";

export const spreadDomains = ["zone", "rack", "host"] as const;

export const placementSpecSchema = z
  .strictObject({
    strategy: z
      .enum(["pack", "spread"])
      .default("pack")
      .describe(
        "pack: uses the fewest hosts. spread: prefers the host with the most free capacity.",
      ),
    spread: z
      .array(
        z.strictObject({
          by: z.enum(spreadDomains),
          maxSkew: z.number().int().min(1).max(1000).default(1),
          mode: z
            .enum(["required", "preferred"])
            .optional()
            .describe(
              "required (default): a set waits rather than exceed `maxSkew`. preferred: it exceeds `maxSkew` where no other host fits.",
            ),
        }),
      )
      .max(3)
      .default([])
      .refine(
        (rules) => new Set(rules.map((rule) => rule.by)).size === rules.length,
        "expected each domain once",
      )
      .describe("The numbers of sets in any two domains differ by at most `maxSkew`."),
    antiAffinity: z
      .array(nameSchema)
      .max(16)
      .default([])
      .describe(
        "Services of the tenant whose sets must not share a host with sets of this service. Its own name permits one set per host.",
      ),
    affinity: z
      .array(nameSchema)
      .max(16)
      .default([])
      .describe("Services of the tenant whose hosts are preferred, but not required."),
    hostLabels: labelsSchema.default({}),
    tolerations: z.array(taintSchema).max(16).default([]),
    pool: nameSchema.default("default"),
  })
  .meta({ id: "PlacementSpec" });
export type PlacementSpec = z.infer<typeof placementSpecSchema>;
