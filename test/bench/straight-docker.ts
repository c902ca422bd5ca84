import type Docker from "dockerode";
import {
  businessContainer,
  infraContainer,
} from "../../src/host-adapters/docker/container-specs.ts";
import type { LocalSetSpec } from "../../src/agent/model/local-set.ts";
import { setTemplateInput } from "../../src/contracts/api/set-template.ts";
import { newId } from "../../src/lib/ids.ts";

/** The template that is measured: one business container that starts and stops immediately. */
export function benchTemplate(image: string): Record<string, unknown> {
  return {
    cpu: 0.5,
    memory: "64Mi",
    rootfs: 0,
    containers: [
      {
        index: 0,
        name: "app",
        image,
        options: {
          cpu: 100,
          memory: 50,
          command: ["/bin/sh", "-c", "trap 'exit 0' TERM; sleep 100000 & wait"],
        },
      },
    ],
  };
}

/**
 * The peer: the same two containers for each set, with the same options, directly through the
 * Docker API. Each call of a set waits for the answer of the previous one, and all sets run
 * concurrently. Resolves with the milliseconds until the last answer.
 */
export async function runStraight(
  docker: Docker,
  { sets, image, infraImage, canRunPrivileged, hostId }: StraightOptions,
): Promise<number> {
  const specs = Array.from({ length: sets }, () => specFor(image));
  const startedAtMs = performance.now();
  await Promise.all(
    specs.map(async (set) => {
      const infra = await docker.createContainer(
        infraContainer(hostId, set, {
          image: infraImage,
          cgroupParent: "",
          networks: [{ dockerNetwork: "bridge" }],
          canRunPrivileged,
          dataPath: undefined,
        }),
      );
      await infra.start();
      for (const template of set.template.containers) {
        const container = await docker.createContainer(
          businessContainer(hostId, set, template, {
            infraId: infra.id,
            cgroupParent: "",
            dataPath: undefined,
            hasInit: true,
          }),
        );
        await container.start();
      }
    }),
  );
  return performance.now() - startedAtMs;
}

export interface StraightOptions {
  sets: number;
  image: string;
  infraImage: string;
  canRunPrivileged: boolean;
  /** Its label marks the containers for removal; no agent has this id. */
  hostId: string;
}

function specFor(image: string): LocalSetSpec {
  return {
    setId: newId("set"),
    tenant: "default",
    service: "bench",
    revision: 1,
    generation: 1,
    restartGeneration: 0,
    restoreVolumeId: null,
    template: setTemplateInput.parse(benchTemplate(image)),
  };
}
