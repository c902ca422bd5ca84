import Docker from "dockerode";
import { dockerLimits } from "../../src/host-adapters/docker/container-specs.ts";
import { composeSetEngine } from "../../src/main/compose/set-engine.ts";
import { newId } from "../../src/lib/ids.ts";
import { silentLog } from "../../src/lib/log.ts";
import { describeSetPort } from "../contract/set-port.ts";
import { baseImage } from "../support/docker/docker.ts";
import { removeHost } from "../support/docker/docker-host.ts";

describeSetPort("Docker", async () => {
  const docker = new Docker();
  const hostIds = [newId("host"), newId("host")] as const;
  const [port, otherHost] = hostIds.map((hostId) =>
    composeSetEngine({ docker, hostId, log: silentLog }),
  );
  if (!port || !otherHost) throw new Error("two hosts were created");
  return {
    port,
    otherHost,
    image: baseImage,
    crash: async (dockerId) => {
      await docker.getContainer(dockerId).kill({ signal: "SIGKILL" });
    },
    removeExternally: async (dockerId) => {
      await docker.getContainer(dockerId).remove({ force: true });
    },
    limitExternally: async (dockerId, limits) => {
      await docker.getContainer(dockerId).update(dockerLimits(limits));
    },
    close: async () => {
      await Promise.all(hostIds.map((hostId) => removeHost(docker, hostId)));
    },
  };
});
