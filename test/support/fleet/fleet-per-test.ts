import { afterEach } from "vitest";
import { createFleetContext, type FleetContext } from "./fleet-context.ts";

/**
 * For a file in which each test starts a fleet. Returns the function that starts it, and closes the
 * fleet after each test.
 */
export function fleetPerTest(): (
  ...settings: Parameters<typeof createFleetContext>
) => Promise<FleetContext> {
  let fleet: FleetContext | undefined;
  afterEach(async () => {
    await fleet?.close();
    fleet = undefined;
  });
  return async (...settings) => (fleet = await createFleetContext(...settings));
}
