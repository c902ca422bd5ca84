import type { BerthEvent } from "../../src/contracts/api/events.ts";
import { WEB_PORT } from "./demo-view.ts";
import type { WebAnswer } from "./demo-watch.ts";

/** A delivery of Alertmanager, in the format of version 0.25. */
export function alertDelivery(
  service: string,
  status: "firing" | "resolved",
  startsAt: string,
): unknown {
  const labels = { alertname: "WebBusy", service };
  return {
    version: "4",
    groupKey: '{}:{alertname="WebBusy"}',
    truncatedAlerts: 0,
    receiver: "berth",
    status,
    groupLabels: { alertname: "WebBusy" },
    commonLabels: labels,
    commonAnnotations: {},
    externalURL: "http://alertmanager.example:9093",
    alerts: [
      {
        status,
        labels,
        annotations: { summary: "more requests than two sets can take" },
        startsAt,
        endsAt: status === "firing" ? "0001-01-01T00:00:00Z" : new Date().toISOString(),
        generatorURL: "http://prometheus.example:9090/graph",
        fingerprint: "9f2a61c7d0b1e4aa",
      },
    ],
  };
}

export function describeAnswer({ set, address, text }: WebAnswer): string {
  return `${shortId(set.id)} answers at http://${address}:${WEB_PORT}/ "${text}"`;
}

/** The text of an event in the timeline; undefined for events that it omits. */
export function describeEvent(event: BerthEvent): string | undefined {
  if (["demand-raised", "demand-resolved", "demand-released"].includes(event.kind))
    return event.text;
  // `berth get decisions` shows the reasons after the colon next.
  if (event.kind === "decision-made") return event.text.split(": ")[0];
  if (event.setId === null) return undefined;
  if (["set-placed", "set-starting", "set-stopping", "set-removed"].includes(event.kind))
    return `${shortId(event.setId)} ${event.kind.slice("set-".length)}`;
  return event.kind === "set-failed" || event.kind === "set-rejected" ? event.text : undefined;
}

function shortId(id: string): string {
  return `set_…${id.slice(-5)}`;
}
