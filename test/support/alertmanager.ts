import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { findFreePort, startChildServer } from "./child-server.ts";
import { waitUntil } from "./wait-until.ts";

const program = "/usr/bin/prometheus-alertmanager";
const readyDeadlineMs = 30_000;

/** The real Alertmanager of Debian's package, with one receiver: a webhook with a bearer token. */
export interface Alertmanager {
  /** Posts to its API as Prometheus does. */
  post(alerts: readonly PostedAlert[]): Promise<void>;
  /** Webhook deliveries that were answered, and those that failed, as it counts them itself. */
  countDeliveries(): Promise<{ sent: number; failed: number }>;
  stop(): Promise<void>;
}

export interface PostedAlert {
  labels: Record<string, string>;
  startsAt?: string;
  endsAt?: string;
}

/**
 * The configuration that docs/elasticity.md shows, with waits that a test can bear: Alertmanager's own are 30 s, 5 min
 * and 4 h.
 */
export function alertmanagerConfig(webhookUrl: string, token: string): string {
  return `route:
  receiver: berth
  group_by: [alertname]
  group_wait: 200ms
  group_interval: 1s
  repeat_interval: 1h
receivers:
  - name: berth
    webhook_configs:
      - url: ${webhookUrl}
        http_config:
          authorization:
            type: Bearer
            credentials: ${token}
`;
}

/** Starts `count` of them: one by itself, or a cluster in which each delivers without waiting for the others. */
export async function startAlertmanagers(count: number, config: string): Promise<Alertmanager[]> {
  const ports = await Promise.all(
    Array.from({ length: count }, async () => ({
      web: await findFreePort(),
      cluster: await findFreePort(),
    })),
  );
  const peers = ports.map((port) => `--cluster.peer=127.0.0.1:${port.cluster}`);
  return Promise.all(
    ports.map((port) => {
      const cluster =
        count === 1
          ? ["--cluster.listen-address="]
          : [
              `--cluster.listen-address=127.0.0.1:${port.cluster}`,
              // Each would give the one before it 15 s to say that it has delivered. Without, all deliver, as they do
              // when they cannot reach each other.
              "--cluster.peer-timeout=0s",
              "--cluster.gossip-interval=20ms",
              ...peers,
            ];
      return startAlertmanager(port.web, config, cluster);
    }),
  );
}

async function startAlertmanager(
  port: number,
  config: string,
  clusterArgs: readonly string[],
): Promise<Alertmanager> {
  const directory = await mkdtemp(path.join(tmpdir(), "berth-alertmanager-"));
  const configFile = path.join(directory, "alertmanager.yml");
  await writeFile(configFile, config, { mode: 0o600 });
  const server = startChildServer(program, [
    `--config.file=${configFile}`,
    `--storage.path=${directory}/data`,
    `--web.listen-address=127.0.0.1:${port}`,
    ...clusterArgs,
  ]);
  const url = `http://127.0.0.1:${port}`;
  const stop = async () => {
    await server.kill(); // asked to stop, one of a cluster takes its leave for more than 10 s
    await rm(directory, { recursive: true, force: true });
  };
  const isReady = async () => (await fetch(`${url}/-/ready`)).ok;
  await waitUntil("Alertmanager is ready", isReady, { deadlineMs: readyDeadlineMs }).catch(
    async (error: unknown) => {
      await stop();
      throw new Error(`${program}:\n${server.outputTail()}`, { cause: error });
    },
  );
  return {
    post: async (alerts) => {
      const response = await fetch(`${url}/api/v2/alerts`, {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify(alerts),
      });
      if (!response.ok) throw new Error(`Alertmanager answered ${await response.text()}`);
    },
    countDeliveries: async () => {
      const metrics = await (await fetch(`${url}/metrics`)).text();
      const read = (name: string) =>
        Number(
          new RegExp(`^${name}\\{integration="webhook"\\} (\\S+)$`, "m").exec(metrics)?.[1] ?? 0,
        );
      const failed = read("alertmanager_notification_requests_failed_total");
      return { sent: read("alertmanager_notification_requests_total") - failed, failed };
    },
    stop,
  };
}
