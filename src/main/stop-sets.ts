import { loadStopSetsConfig } from "../config/stop-sets.ts";
import { stopAllSets } from "../host-adapters/docker/stop-all-sets.ts";
import { openDocker } from "../host-adapters/docker/open-docker.ts";
import { createLog } from "../lib/log.ts";
import { loadConfigOrExit, readVersion } from "./compose/run-process.ts";

/** Time for the sets that have not stopped within BERTH_SETS_STOP_TIMEOUT_MS. */
const lateTimeoutMs = 20_000;

/**
 * Stops all sets of this machine in order. systemd runs it once, when the machine shuts down and
 * the agent has ended. The next agent starts the sets again.
 */
const settings = loadConfigOrExit(loadStopSetsConfig);
const log = createLog({ service: "stop-sets", version: readVersion(), level: "info" });
const docker = openDocker(settings.BERTH_DOCKER_SOCKET);
try {
  await stopAllSets({
    docker,
    log,
    timeoutMs: settings.BERTH_SETS_STOP_TIMEOUT_MS,
    lateTimeoutMs,
  });
} catch (error) {
  log.error({ err: error }, "cannot stop the sets in order");
  process.exitCode = 1;
}
