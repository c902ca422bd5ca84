import { loadHostAgentConfig } from "../config/host-agent.ts";
import { startWatchdog } from "../host-adapters/machine/watchdog.ts";
import { startHostAgent } from "./compose/host-agent.ts";
import { runProcess } from "./compose/run-process.ts";

/**
 * The agent of this machine. It only pulls; nothing connects to it. Its containers keep running
 * when it stops.
 */
await runProcess("host-agent", loadHostAgentConfig, async (config, context) => {
  const unitTimeoutUs = config.WATCHDOG_USEC;
  startWatchdog({
    notifySocket: config.NOTIFY_SOCKET,
    unitTimeoutMs: unitTimeoutUs === undefined ? undefined : unitTimeoutUs / 1_000,
    log: context.log,
  });
  return startHostAgent(
    {
      settings: config,
      apiUrl: config.BERTH_API_URL,
      apiCa: config.BERTH_API_CA,
      enrollToken: async () => {
        const token = config.BERTH_ENROLL_TOKEN?.reveal();
        if (token !== undefined) return token;
        throw new Error(
          `this host is not enrolled, because ${config.BERTH_AGENT_DATA_DIR} has no state. Set BERTH_ENROLL_TOKEN to a token from \`berth enroll-token\`.`,
        );
      },
      shutdownTimeoutMs: config.BERTH_SHUTDOWN_TIMEOUT_MS,
    },
    context,
  );
});
