import Docker from "dockerode";
import { composeSetEngine } from "../../../src/main/compose/set-engine.ts";
import type { LocalSetSpec } from "../../../src/agent/model/local-set.ts";
import { silentLog } from "../../../src/lib/log.ts";

/**
 * A process that starts sets, removes every second one and restarts the others, until it is killed.
 * Usage: `tsx set-child.ts HOST_ID SETS_AS_JSON`. It prints "ready" before its first call.
 */
const [hostId = "", setsJson = "[]"] = process.argv.slice(2);
const sets = JSON.parse(setsJson) as LocalSetSpec[];
const port = composeSetEngine({ docker: new Docker(), hostId, log: silentLog });
const { signal } = new AbortController();

async function churn(set: LocalSetSpec, position: number): Promise<void> {
  const names = set.template.containers.map(({ name }) => name);
  for (let round = 0; ; round++) {
    const wanted = { ...set, restartGeneration: set.restartGeneration + (round % 2) };
    try {
      await port.prepare(wanted, signal);
      await port.start(wanted, names, signal);
      if (position % 2 === 0) await port.remove(set.setId, signal);
    } catch (error) {
      process.stderr.write(`${String(error)}\n`); // a call of the previous process is in progress
    }
  }
}

process.stdout.write("ready\n");
await Promise.all(sets.map(churn));
