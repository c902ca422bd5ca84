import { afterEach } from "vitest";
import { createFleetContext, type FleetContext } from "./fleet-context.ts";

/**
 * For a file whose tests start a fleet each: how they do so, and it is closed after each of them.
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
