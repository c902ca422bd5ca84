import { loadNetworkDriverConfig } from "../config/network-driver.ts";
import { startNetworkDriver } from "./compose/network-driver.ts";
import { runProcess } from "./compose/run-process.ts";

/**
 * The network driver of this machine: Docker's plugin `berth`. A process of its own, so that
 * containers restart with their addresses while the agent is upgraded or stopped.
 */
await runProcess("network-driver", loadNetworkDriverConfig, startNetworkDriver);
