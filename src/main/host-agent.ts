import { loadHostAgentConfig } from "../config/host-agent.ts";
import { startHostAgent } from "./compose/host-agent.ts";
import { runProcess } from "./compose/run-process.ts";

/** The agent of this machine. It only asks; nothing connects to it. Stopping it leaves every container as it is. */
await runProcess("host-agent", loadHostAgentConfig, async (config, running) =>
  startHostAgent(
    {
      settings: config,
      apiUrl: config.BERTH_API_URL,
      apiCa: config.BERTH_API_CA,
      enrollToken: async () => {
        const token = config.BERTH_ENROLL_TOKEN?.reveal();
        if (token !== undefined) return token;
        throw new Error(
          `this host is not enrolled (nothing in ${config.BERTH_AGENT_DATA_DIR}): set BERTH_ENROLL_TOKEN to a token from \`berth enroll-token\``,
        );
      },
      shutdownTimeoutMs: config.BERTH_SHUTDOWN_TIMEOUT_MS,
    },
    running,
  ),
);
