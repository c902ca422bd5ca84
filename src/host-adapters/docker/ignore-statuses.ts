import { dockerStatus } from "./call-docker.ts";

/** Awaits a call, and ignores its refusal with one of the HTTP statuses. */
export async function ignoreStatuses(
  statuses: readonly number[],
  call: () => Promise<unknown>,
): Promise<void> {
  try {
    await call();
  } catch (error) {
    const status = dockerStatus(error);
    if (status === undefined || !statuses.includes(status)) throw error;
  }
}
