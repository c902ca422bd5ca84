import { parse } from "yaml";
import type { DemoBerth } from "./demo-berth.ts";
import { manifest, REPLICAS_MIN, SERVICE } from "./demo-manifest.ts";
import { measurePeer } from "./demo-peer.ts";
import { readStartPhases } from "./demo-phases.ts";
import type { DemoScreen } from "./demo-screen.ts";
import { describeAnswer } from "./demo-story.ts";
import type { NetworkView } from "./demo-view.ts";
import { untilAnswering, type WebAnswer } from "./demo-watch.ts";

export interface FirstSet {
  firstSetRunningMs: number;
  /** The same containers and volumes without Berth, on Docker's bridge. */
  firstSetDockerMs: number;
  firstSetRatio: number;
  firstSetPhasesMs: Record<string, number>;
}

/** Creates the service over REST, and waits until each set answers at its own address. */
export async function deploy(
  screen: DemoScreen,
  berth: DemoBerth,
  {
    known,
    view,
    deadlineMs,
  }: { known: Map<string, WebAnswer>; view: NetworkView; deadlineMs: number },
): Promise<Pick<FirstSet, "firstSetRunningMs" | "firstSetPhasesMs">> {
  screen.heading(`A service of ${REPLICAS_MIN} sets`);
  for (const line of manifest.trimEnd().split("\n")) screen.line(line);
  screen.line();
  const zeroMs = Date.now();
  await berth.request("POST", "/v1/services", parse(manifest));
  const acceptedMs = Date.now() - zeroMs;
  screen.moment(acceptedMs, "POST /v1/services: accepted", "key");
  let first: WebAnswer | undefined;
  await untilAnswering(berth, {
    service: SERVICE,
    count: REPLICAS_MIN,
    known,
    view,
    deadlineMs,
    onAnswer: (answer) => {
      first ??= answer;
      screen.moment(answer.atMs - zeroMs, describeAnswer(answer), "good");
    },
  });
  screen.line();
  const { id, answeredAtMs } = { id: first?.set.id ?? "", answeredAtMs: first?.atMs ?? zeroMs };
  const phases = await readStartPhases(berth, { id, zeroMs, acceptedMs, answeredAtMs });
  const firstSetPhasesMs = Object.fromEntries(
    phases.map(({ name, durationMs }) => [name, durationMs]),
  );
  screen.line(`the first set: ${describePhases(firstSetPhasesMs)}`);
  return { firstSetRunningMs: answeredAtMs - zeroMs, firstSetPhasesMs };
}

export function describePhases(phasesMs: Readonly<Record<string, number>>): string {
  return Object.entries(phasesMs)
    .map(([name, durationMs]) => `${name} ${durationMs} ms`)
    .join(", ");
}

/** Starts the same sets without Berth, in this process, and prints both figures. */
export async function compareWithDocker(
  screen: DemoScreen,
  hostId: string,
  firstSetRunningMs: number,
): Promise<Pick<FirstSet, "firstSetDockerMs" | "firstSetRatio">> {
  const { firstMs, allMs } = await measurePeer(hostId);
  const firstSetRatio = Math.round((firstSetRunningMs / firstMs) * 100) / 100;
  screen.line();
  screen.line(
    `the first set took ${firstSetRunningMs} ms; the same containers and volumes directly with Docker, on its bridge, ${firstMs} ms`,
  );
  screen.line(`(median of ${allMs.join(", ")}), ratio ${firstSetRatio}`);
  return { firstSetDockerMs: firstMs, firstSetRatio };
}
