import type { LocalSetSpec } from "../../../src/agent/model/local-set.ts";
import { setTemplateInput } from "../../../src/contracts/api/set-template.ts";
import { newId } from "../../../src/lib/ids.ts";

export interface LocalSetChanges {
  image?: string;
  /** Names of the business containers; the index of each is its position. */
  names?: string[];
  generation?: number;
  restartGeneration?: number;
  /** Options of every container. */
  options?: object;
  template?: object;
}

/** Runs until SIGTERM, and exits immediately after it. */
export const patientCommand = ["/bin/sh", "-c", "trap 'exit 0' TERM; sleep 100000 & wait"];

/** A small set as the agent stores it, parsed by the API's schema. */
export function localSet({
  image = "berth-test/busybox:1",
  names = ["app"],
  generation = 1,
  restartGeneration = 1,
  options = {},
  template = {},
}: LocalSetChanges = {}): LocalSetSpec {
  const memory = Math.floor(100 / names.length);
  return {
    setId: newId("set"),
    tenant: "default",
    service: "sample",
    revision: 1,
    generation,
    restartGeneration,
    restoreVolumeId: null,
    template: setTemplateInput.parse({
      cpu: 1,
      memory: "128Mi",
      containers: names.map((name, index) => ({
        index,
        name,
        image,
        options: { cpu: 50, memory, command: patientCommand, ...options },
      })),
      ...template,
    }),
  };
}
