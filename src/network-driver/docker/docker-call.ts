import type { z } from "zod";
import { DriverError } from "../model/driver-error.ts";

/** One method of Docker's plugin interface. */
export interface DockerCall {
  /** False for a call that ignores its body. */
  needsBody: boolean;
  /** Performs the call. `body` is its parsed JSON. */
  perform: (body: unknown, signal: AbortSignal) => Promise<object>;
}

/** A call without a schema ignores its body. Rejects with DriverError if the body is invalid. */
export function defineCall<S extends z.ZodType>(
  schema: S,
  perform: (body: z.output<S>, signal: AbortSignal) => Promise<object>,
): DockerCall;
export function defineCall(schema: undefined, perform: () => Promise<object>): DockerCall;
export function defineCall(
  schema: z.ZodType | undefined,
  perform: (body: unknown, signal: AbortSignal) => Promise<object>,
): DockerCall {
  if (schema === undefined) return { needsBody: false, perform };
  return {
    needsBody: true,
    perform: async (body, signal) => {
      const parsed = schema.safeParse(body);
      if (parsed.success) return perform(parsed.data, signal);
      throw new DriverError(`Docker sent an invalid call: ${describeIssue(parsed.error)}.`);
    },
  };
}

/** Names the first invalid member without its value. */
function describeIssue({ issues }: z.ZodError): string {
  const [issue] = issues;
  if (!issue) return "its form is unknown";
  const member = issue.path.map(String).join(".");
  return member === "" ? issue.message : `\`${member}\`: ${issue.message}`;
}
