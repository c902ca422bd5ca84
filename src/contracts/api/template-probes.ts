import { z } from "zod";

const HOOK_SECONDS_MAX = 600;

/** One argument of a program. */
export const argument = z
  .string()
  .max(4096)
  .refine((text) => !text.includes("\0"), "must not contain NUL");
/** A program with its arguments. */
export const argv = z.array(argument).min(1).max(64);
const port = z.number().int().min(1).max(65_535);

/** The path of a GET request. */
const httpPath = z
  .string()
  .max(1024)
  .regex(/^\/[!-~]*$/)
  .default("/");

const probe = z.strictObject({
  exec: z
    .strictObject({ command: argv })
    .optional()
    .describe("A program that runs in the container. Exit code 0 means healthy."),
  http: z
    .strictObject({ port, path: httpPath })
    .optional()
    .describe("A GET request to the set's address. A status from 200 to 399 means healthy."),
  tcp: z
    .strictObject({ port })
    .optional()
    .describe("A connection to the set's address. An accepted connection means healthy."),
  intervalSeconds: z.number().int().min(1).max(300).default(2),
  timeoutSeconds: z.number().int().min(1).max(60).default(2),
  failureThreshold: z.number().int().min(1).max(100).default(3),
  startPeriodSeconds: z
    .number()
    .int()
    .min(0)
    .max(3600)
    .default(60)
    .describe("The time after a start during which failed probes do not count."),
});

/** How the agent finds out whether a container is healthy. */
export const health = probe.refine(
  (check) => [check.exec, check.http, check.tcp].filter((kind) => kind !== undefined).length === 1,
  "expected exactly one of exec, http and tcp",
);

const hook = z
  .strictObject({
    exec: z
      .strictObject({ command: argv })
      .optional()
      .describe("A program that runs in the container. Exit code 0 means success."),
    http: z
      .strictObject({ port, path: httpPath })
      .optional()
      .describe("A GET request to the set's address. A status from 200 to 399 means success."),
    timeoutSeconds: z.number().int().min(1).max(HOOK_SECONDS_MAX).default(10),
  })
  .refine(
    ({ exec, http }) => (exec === undefined) !== (http === undefined),
    "expected exactly one of exec and http",
  );

/** Programs and requests that accompany the start and the stop of a container. */
export const hooks = z
  .strictObject({
    preStop: hook
      .optional()
      .describe("Runs before the stop signal. The container stops although it fails."),
    postStart: hook
      .optional()
      .describe("Runs after each start. The container is not ready before it succeeds."),
  })
  .refine(
    ({ preStop, postStart }) => preStop !== undefined || postStart !== undefined,
    "expected at least one of preStop and postStart",
  );
