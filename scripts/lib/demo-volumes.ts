import type { Volume } from "../../src/contracts/api/volumes.ts";
import type { DemoBerth } from "./demo-berth.ts";
import { pause } from "./demo-watch.ts";

/** Purges the demo's volumes, which have no value. */
export async function purgeVolumes(berth: DemoBerth, deadlineMs: number): Promise<void> {
  const deadline = Date.now() + deadlineMs;
  for (;;) {
    const { items } = await berth.request<{ items: Volume[] }>("GET", "/v1/volumes");
    if (items.length === 0) return;
    if (Date.now() > deadline) throw new Error(`${items.length} volumes remain`);
    for (const { id, state, purging } of items) {
      if (state === "trashed" && !purging)
        await berth.request("POST", `/v1/volumes/${id}/purge`, { confirm: id });
    }
    await pause(100);
  }
}
