import { connect } from "node:net";
import type { ProbeResult } from "../../agent/model/local-set.ts";
import type { NetworkPort } from "../../agent/ports/network-port.ts";
import { probeByHttp } from "./http-probe.ts";
import { withinTimeout } from "./probe-timeout.ts";

/**
 * NetworkPort on Docker's bridge, which exists while the daemon runs. The machine has a route to
 * it, so probes connect from the machine's own network. Docker releases a set's address when it
 * stops infra.
 */
export function createBridgeNetwork(): NetworkPort {
  return {
    async prepare(_set, signal) {
      signal.throwIfAborted();
      return [{ dockerNetwork: "bridge" }];
    },
    async release() {},
    probe: ({ address, port, path }, timeoutSeconds, signal) =>
      path === undefined
        ? probeByTcp({ address, port }, timeoutSeconds, signal)
        : probeByHttp({ address, port, path }, timeoutSeconds, signal),
  };
}

function probeByTcp(
  { address, port }: { address: string; port: number },
  timeoutSeconds: number,
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
