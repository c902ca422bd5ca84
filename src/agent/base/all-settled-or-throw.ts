import { AgentError } from "./agent-error.ts";

/**
 * Waits until all have settled, so that no part of a failed step continues. Then throws a permanent
 * error, or else the first error.
 */
export async function allSettledOrThrow(calls: readonly Promise<unknown>[]): Promise<void> {
  const results = await Promise.allSettled(calls);
  const errors = results.flatMap((result): unknown[] =>
    result.status === "rejected" ? [result.reason] : [],
  );
  if (errors.length === 0) return;
  throw errors.find((error) => error instanceof AgentError && !error.temporary) ?? errors[0];
}
