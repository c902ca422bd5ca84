import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { findFreePort, startChildServer } from "./child-server.ts";
import { waitUntil } from "../wait-until.ts";

const program = "/usr/bin/prometheus-alertmanager";
const readyDeadlineMs = 30_000;

/** The real Alertmanager of Debian's package, with one receiver: a webhook with a bearer token. */
export interface Alertmanager {
  /** Posts to its API like Prometheus. */
  post(alerts: readonly PostedAlert[]): Promise<void>;
  /** Its own counts of delivered and failed webhooks. */
  countDeliveries(): Promise<{ sent: number; failed: number }>;
  stop(): Promise<void>;
}

export interface PostedAlert {
  labels: Record<string, string>;
  startsAt?: string;
  endsAt?: string;
}

const exampleFile = new URL("../../../examples/alertmanager/alertmanager.yml", import.meta.url);

/**
 * Returns the example's configuration with a hook's address and token, and with shorter waits.
 * Throws if the example lacks one of these settings.
 */
export async function alertmanagerConfig(webhookUrl: string, token: string): Promise<string> {
  let config = await readFile(exampleFile, "utf8");
  const values: [RegExp, string][] = [
    [/url: .*/, `url: ${webhookUrl}`],
    [/credentials: .*/, `credentials: ${token}`],
    [/group_wait: .*/, "group_wait: 200ms"],
    [/group_interval: .*/, "group_interval: 1s"],
  ];
  for (const [pattern, value] of values) {
    if (!pattern.test(config)) throw new Error(`the example has no ${pattern.source}`);
    config = config.replace(pattern, value);
  }
  return config;
}

/**
 * Starts an Alertmanager without a cluster. Two of them act as a partitioned pair: both deliver
 * each alert. In a working cluster only one of them delivers it.
 */
export async function startAlertmanager(config: string): Promise<Alertmanager> {
  const port = await findFreePort();
  const directory = await mkdtemp(path.join(tmpdir(), "berth-alertmanager-"));
  const configFile = path.join(directory, "alertmanager.yml");
  await writeFile(configFile, config, { mode: 0o600 });
  const server = startChildServer(program, [
    `--config.file=${configFile}`,
    `--storage.path=${directory}/data`,
    `--web.listen-address=127.0.0.1:${port}`,
    "--cluster.listen-address=",
  ]);
  const url = `http://127.0.0.1:${port}`;
  const stop = async () => {
    await server.kill("SIGTERM");
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
