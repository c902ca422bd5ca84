import { connect } from "node:net";
import type { HealthCheck } from "../../contracts/api/set-template.ts";
import type { LocalSetSpec, ProbeResult, ProbeTarget } from "../../agent/model/local-set.ts";
import type { DockerContext } from "./docker-context.ts";
import { probeByExec } from "./exec-probe.ts";
import { probeByHttp } from "./http-probe.ts";
import { withinTimeout } from "./probe-timeout.ts";

/**
 * SetPort.probe on Docker. A fault of the container, timeouts included, is an unhealthy result.
 * Only a daemon that does not answer is an error, so that it does not count against the container.
 * TCP and HTTP probes do not call the daemon, so they work while it hangs.
 */
export async function probeContainer(
  context: DockerContext,
  set: LocalSetSpec,
  { container, address }: ProbeTarget,
  signal: AbortSignal,
): Promise<ProbeResult> {
  const health = set.template.containers.find(({ name }) => name === container.name)?.options
    .health;
  if (!health) return { healthy: true };
  if (container.state !== "running")
    return { healthy: false, detail: `the container is ${container.state}` };
  if (health.exec) {
    const { dockerId } = container;
    return probeByExec(context, { setId: set.setId, dockerId }, health, signal);
  }
  if (address === undefined) return { healthy: false, detail: "the set has no address" };
  if (health.http) {
    return probeByHttp({ ...health.http, address }, health.timeoutSeconds, signal);
  }
  if (health.tcp) return probeByTcp({ ...health.tcp, address }, health, signal);
  return { healthy: true };
}

function probeByTcp(
  { address, port }: { address: string; port: number },
  { timeoutSeconds }: HealthCheck,
  signal: AbortSignal,
): Promise<ProbeResult> {
  return withinTimeout(timeoutSeconds, signal, (probeSignal, settle) => {
    const socket = connect({ host: address, port, signal: probeSignal });
    socket.on("connect", () => {
      socket.destroy();
      settle({ healthy: true });
    });
    socket.on("error", (error) => {
      settle({ healthy: false, detail: `connect to port ${port}: ${error.message}` });
    });
  });
}
