import { describeSetPort } from "../../../../test/contract/set-port.ts";
import { systemClock } from "../../clock.ts";
import { createSimulatedSetPort } from "./set-port.ts";
import { SimulatedEngine } from "./simulated-engine.ts";

const image = "berth-test/busybox:1";

describeSetPort("simulated", async () => {
  const engine = new SimulatedEngine({
    clock: systemClock,
    // Real containers take their time, and so do these: what starts later has a later time of its start.
    delaysMs: { prepare: 2, start: 2, stop: 2, stopAll: 2, remove: 2 },
    hasImage: (reference) => reference === image,
    images: [image],
  });
  return {
    port: createSimulatedSetPort(engine, "host_one"),
    otherHost: createSimulatedSetPort(engine, "host_two"),
    image,
    crash: async (dockerId) => engine.exit(dockerId),
    removeBehind: async (dockerId) => engine.removeBehind(dockerId),
    limitBehind: async (dockerId, limits) => engine.limitBehind(dockerId, limits),
    close: async () => undefined,
  };
});
