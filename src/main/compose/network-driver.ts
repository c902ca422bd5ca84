import path from "node:path";
import type { NetworkDriverConfig } from "../../config/network-driver.ts";
import { storedNetworkStateSchema } from "../../contracts/network-driver/network-state.ts";
import { createVethLinks } from "../../host-adapters/links/veth-links.ts";
import { notifyReady } from "../../host-adapters/machine/notify-ready.ts";
import { createFilterWatch } from "../../host-adapters/ovs/filter-watch.ts";
import { createHostUplink } from "../../host-adapters/ovs/host-uplink.ts";
import { createOvsSwitch } from "../../host-adapters/ovs/ovs-switch.ts";
import { createPortHolder } from "../../host-adapters/ovs/port-holder.ts";
import { createTunnelGuard } from "../../host-adapters/ovs/tunnel-guard.ts";
import { openJsonState } from "../../host-adapters/state-file/json-state.ts";
import { readHostResolvers } from "../../host-adapters/unbound/host-resolvers.ts";
import { createUnboundServer } from "../../host-adapters/unbound/unbound-server.ts";
import { driverRecordsSchema, salvageRecords } from "../../network-driver/model/driver-records.ts";
import { nameServerAddress } from "../../network-driver/flows/compile-flows.ts";
import type { NameServer } from "../../network-driver/ports/name-server.ts";
import type { Uplink } from "../../network-driver/ports/uplink.ts";
import { createNetworkDriver, type NetworkDriver } from "../../network-driver/network-driver.ts";
import { convergeOnce, startDriverChecks } from "./driver-checks.ts";
import { lockFolder } from "./lock-folder.ts";
import type { ProcessContext } from "./run-process.ts";
import { serveUnixSocket } from "./serve-unix-socket.ts";

/**
 * The driver serves after this time even if the switch does not answer. Docker waits at most 30 s
 * for a plugin.
 */
const FIRST_CONVERGENCE_TIMEOUT_MS = 15_000;
/** Within the same 30 s. */
const FIRST_NAMES_TIMEOUT_MS = 5_000;
const DOCKER_BODY_BYTES_MAX = 2 ** 20;
const CONTROL_BODY_BYTES_MAX = 32 * 2 ** 20;

/** Starts the driver, and returns the fields of the ready line. */
export async function startNetworkDriver(
  config: NetworkDriverConfig,
  { log, shutdown, version }: ProcessContext,
): Promise<Record<string, unknown>> {
  const folder = config.BERTH_NETWORK_DATA_DIR;
  const unlock = await lockFolder(folder, "lock");
  shutdown.add("lock", unlock);
  const driver = await createNetworkDriver({
    links: createVethLinks({ disablesChecksumOffload: config.BERTH_NETWORK_DATAPATH === "netdev" }),
    switchPort: createOvsSwitch({
      bridge: config.BERTH_NETWORK_BRIDGE,
      datapath: config.BERTH_NETWORK_DATAPATH,
      runFolder: config.BERTH_NETWORK_OVS_RUNDIR,
      tunnel: { udpPort: config.BERTH_NETWORK_TUNNEL_PORT },
      pmdCpus: config.BERTH_NETWORK_PMD_CPUS,
    }),
    tunnelGuard: createTunnelGuard({
      bridge: config.BERTH_NETWORK_BRIDGE,
      udpPort: config.BERTH_NETWORK_TUNNEL_PORT,
      mtu: config.BERTH_NETWORK_MTU,
    }),
    uplink: composeUplink(config),
    filterWatch: createFilterWatch({ bridge: config.BERTH_NETWORK_BRIDGE }),
    nameServer: composeNameServer(config),
    datapath: config.BERTH_NETWORK_DATAPATH,
    recordStore: openJsonState(
      path.join(folder, "records.json"),
      driverRecordsSchema,
      salvageRecords,
    ),
    networkStateStore: openJsonState(
      path.join(folder, "network-state.json"),
      storedNetworkStateSchema,
    ),
    linkPrefix: config.BERTH_NETWORK_LINK_PREFIX,
    mtu: config.BERTH_NETWORK_MTU,
    version,
    nowMs: () => performance.now(),
    log,
  });
  const stopping = new AbortController();
  const isConverged = await convergeOnce(driver, stopping.signal, FIRST_CONVERGENCE_TIMEOUT_MS)
    .then(() => true)
    .catch((error: unknown) => {
      log.warn({ err: error }, "the first convergence failed");
      return false;
    });
  // Docker fixes the name server of a container at its creation, so the first status must know it.
  await driver
    .checkNames(stopping.signal, FIRST_NAMES_TIMEOUT_MS)
    .catch((error: unknown) => log.warn({ err: error }, "the first check of the names failed"));
  const checks = startDriverChecks(driver, {
    isConverged,
    signal: stopping.signal,
    onError: (error) => {
      if (!stopping.signal.aborted) log.warn({ err: error }, "a check or convergence failed");
    },
  });
  shutdown.add("checks", async () => {
    stopping.abort();
    await checks.stop();
  });
  const plugin = path.join(config.BERTH_NETWORK_PLUGIN_DIR, `${config.BERTH_NETWORK_PLUGIN}.sock`);
  await serveSockets(
    driver,
    { plugin, control: config.BERTH_NETWORK_CONTROL_SOCKET },
    { log, shutdown },
  );
  await notifyReady(config.NOTIFY_SOCKET, log);
  return { plugin, control: config.BERTH_NETWORK_CONTROL_SOCKET };
}

function composeUplink(config: NetworkDriverConfig): Uplink | undefined {
  const subnet = config.BERTH_NETWORK_OUTBOUND_SUBNET;
  if (subnet === "none") return undefined;
  const [firstAddress = ""] = subnet.split("/");
  return createHostUplink({
    bridge: config.BERTH_NETWORK_BRIDGE,
    firstAddress,
    tunnelUdpPort: config.BERTH_NETWORK_TUNNEL_PORT,
    portHolder: createPortHolder(),
    outboundInterfaces: config.BERTH_NETWORK_OUTBOUND_INTERFACES,
  });
}

function composeNameServer(config: NetworkDriverConfig): NameServer | undefined {
  const subnet = config.BERTH_NETWORK_OUTBOUND_SUBNET;
  if (!config.BERTH_NETWORK_DNS || subnet === "none") return undefined;
  const [firstAddress = ""] = subnet.split("/");
  const resolvers = config.BERTH_NETWORK_DNS_RESOLVERS;
  return createUnboundServer({
    folder: config.BERTH_NETWORK_DNS_DIR,
    user: "unbound",
    address: nameServerAddress(firstAddress),
    clientSubnet: subnet,
    readResolvers: resolvers === undefined ? readHostResolvers : async () => resolvers,
  });
}

async function serveSockets(
  driver: NetworkDriver,
  { plugin, control }: { plugin: string; control: string },
  context: Pick<ProcessContext, "log" | "shutdown">,
): Promise<void> {
  await serveUnixSocket(
    {
      socketPath: control,
      contentType: "application/json",
      bodyBytesMax: CONTROL_BODY_BYTES_MAX,
      answer: (request) => driver.answerControl(request),
    },
    context,
  );
  // The last step: Docker finds the plugin by its socket.
  await serveUnixSocket(
    {
      socketPath: plugin,
      contentType: "application/vnd.docker.plugins.v1.1+json",
      bodyBytesMax: DOCKER_BODY_BYTES_MAX,
      answer: async ({ path: method, body }) => ({
        status: 200,
        body: await driver.answerDocker(method, body),
      }),
    },
    context,
  );
}
