import { z } from "zod";
import { nameSchema } from "../common/primitives.ts";
import { rolloutStrategyInput, selectionSchema } from "./rollouts.ts";
import {
  CONTAINERS_PER_SET_MAX,
  imageReference,
  setTemplateInput,
  sharedOptions,
} from "./set-template.ts";

const MESSAGE_CHARACTERS_MAX = 500;
const { env, restart, stopTimeoutSeconds } = sharedOptions;

/** Options that are absent stay unchanged, so none of them has a default. */
const containerChange = z
  .strictObject({
    image: imageReference.optional(),
    options: z
      .strictObject({
        ...sharedOptions,
        env: env.unwrap().optional(),
        restart: restart.unwrap().optional(),
        stopTimeoutSeconds: stopTimeoutSeconds.unwrap().optional(),
      })
      .optional()
      .describe("Each option replaces that of the container as a whole. Others stay unchanged."),
  })
  .refine(
    ({ image, options }) => image !== undefined || options !== undefined,
    "expected an image or options",
  )
  .meta({ id: "ContainerChange" });

const changeMembers = ["containers", "template", "toRevision", "restart"] as const;

/** `POST /v1/services/{name}/rollouts`. */
export const createRolloutBody = z
  .strictObject({
    containers: z
      .record(nameSchema, containerChange)
      .refine((changes) => {
        const { length } = Object.keys(changes);
        return length > 0 && length <= CONTAINERS_PER_SET_MAX;
      }, `expected 1 to ${CONTAINERS_PER_SET_MAX} containers`)
      .optional()
      .describe("Changes of containers by their names. Other containers stay untouched."),
    template: setTemplateInput.optional(),
    toRevision: z
      .number()
      .int()
      .positive()
      .optional()
      .describe("The sets get the template of this revision. An older one gets a new number."),
    restart: z
      .literal(true)
      .optional()
      .describe("The containers of all sets are replaced, with the same template."),
    strategy: rolloutStrategyInput.optional().describe("Default: that of the service."),
    ifActive: z
      .enum(["reject", "wait", "supersede"])
      .default("reject")
      .describe(
        "If another rollout of the service is active: reject the request, start after that one has ended, or take its place. At most one rollout waits.",
      ),
    message: z.string().max(MESSAGE_CHARACTERS_MAX).optional(),
  })
  .refine(
    (body) => changeMembers.filter((member) => body[member] !== undefined).length === 1,
    `expected exactly one of ${changeMembers.join(", ")}`,
  )
  .meta({ id: "CreateRollout" });
export type CreateRollout = z.infer<typeof createRolloutBody>;

/** `POST /v1/services/{name}/rollouts/{number}/pause`, and others like it. */
export const changeRolloutBody = z
  .strictObject({ reason: z.string().max(MESSAGE_CHARACTERS_MAX).optional() })
  .meta({ id: "ChangeRollout" });
export type ChangeRollout = z.infer<typeof changeRolloutBody>;

/** `POST /v1/services/{name}/rollouts/{number}/promote`. */
export const promoteRolloutBody = z
  .strictObject({
    reason: z.string().max(MESSAGE_CHARACTERS_MAX).optional(),
    select: selectionSchema
      .optional()
      .describe(
        "Other sets for the current step. Updated sets beyond them return to the previous revision.",
      ),
    isFull: z.literal(true).optional().describe("All sets, without the remaining steps."),
  })
  .refine(
    ({ select, isFull }) => select === undefined || isFull === undefined,
    "expected at most one of select and isFull",
  )
  .meta({ id: "PromoteRollout" });
export type PromoteRollout = z.infer<typeof promoteRolloutBody>;

/** `POST /v1/services/{name}/rollouts/{number}/measurements`. */
export const addMeasurementBody = z
  .strictObject({ metric: nameSchema, value: z.number() })
  .meta({ id: "AddMeasurement" });
export type AddMeasurement = z.infer<typeof addMeasurementBody>;
