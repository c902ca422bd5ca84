import type { DesiredSet } from "../contracts/agent-protocol/protocol.ts";
import type { Log } from "../lib/log.ts";
import type { Clock } from "./clock.ts";
import { noteProbe, postponeProbe } from "./container-memory.ts";
import type { ObservedLocalSet, ProbeResult, SetPort } from "./ports/set-port.ts";
import type { SetMemory } from "./set-memory.ts";

/** What is probed: a set as it is wanted, as it was seen, and as it is remembered. */
export interface Probed {
  desired: DesiredSet;
  observed: ObservedLocalSet | undefined;
  memory: SetMemory;
}

/** Probes containers at once and remembers what came of it. A probe that could not be made says nothing, and is put off. */
export async function probeContainers(
  tools: { port: Pick<SetPort, "probe">; clock: Clock; log: Log },
  probed: Probed,
  names: readonly string[],
  signal: AbortSignal,
): Promise<void> {
  await Promise.all(names.map((name) => probeContainer(tools, probed, name, signal)));
}

async function probeContainer(
  { port, clock, log }: { port: Pick<SetPort, "probe">; clock: Clock; log: Log },
  { desired, observed, memory }: Probed,
  name: string,
  signal: AbortSignal,
): Promise<void> {
  const wanted = desired.template.containers.find((container) => container.name === name);
  const seen = observed?.containers.find((container) => container.name === name);
  const check = wanted?.options.health;
  if (!check || !seen) return;
  let result: ProbeResult;
  try {
    result = await port.probe(desired, name, signal);
  } catch (error) {
    if (signal.aborted) return;
    log.debug({ err: error, setId: desired.setId, container: name }, "probe not made");
    postponeProbe(memory, name, check, clock.nowMs());
    return;
  }
  noteProbe(memory, seen, check, result, clock.nowMs());
}
