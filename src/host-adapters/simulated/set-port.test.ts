import { describeSetPort } from "../../../test/contract/set-port.ts";
import { systemClock } from "../machine/system-clock.ts";
import { createSimulatedSetPort } from "./set-port.ts";
import { SimulatedEngine } from "./simulated-engine.ts";

const image = "berth-test/busybox:1";

describeSetPort("simulated", async () => {
  const engine = new SimulatedEngine({
    clock: systemClock,
    // Real containers take time to start, and so do these: later starts have later start times.
    delaysMs: { prepare: 2, start: 2, stop: 2, stopAll: 2, remove: 2 },
    hasImage: (reference) => reference === image,
    images: [image],
  });
  return {
    port: createSimulatedSetPort(engine, "host_one"),
    otherHost: createSimulatedSetPort(engine, "host_two"),
    image,
    crash: async (dockerId) => engine.exit(dockerId),
    removeExternally: async (dockerId) => engine.removeExternally(dockerId),
    limitExternally: async (dockerId, limits) => engine.limitExternally(dockerId, limits),
    close: async () => undefined,
  };
});
