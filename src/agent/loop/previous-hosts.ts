import type { Log } from "../../lib/log.ts";
import { isAborted } from "../../lib/async/abort.ts";
import type { PreviousHostsPort } from "../ports/previous-hosts-port.ts";

export interface PreviousHostsOptions {
  hostId: string;
  port: PreviousHostsPort;
  log: Log;
  /** Called when the volumes of this host may have changed. */
  onRemoved: () => void;
}

/**
 * Removes the sets of deleted hosts that were this machine. Without it, the containers of a host
 * that was enrolled again would run on beside their replacements (I3). It acts only on ids that the
 * control plane names: another installation of Berth may use the same Docker.
 */
export class PreviousHosts {
  readonly #options: PreviousHostsOptions;
  /** Hosts that this process has removed. The control plane bounds their number. */
  readonly #removed = new Set<string>();
  #work: Promise<void> | undefined;

  constructor(options: PreviousHostsOptions) {
    this.#options = options;
  }

  /**
   * Removes these hosts in the background, unless it removes some now. Call it with each complete
   * answer, which repeats the ids. So a failed removal is retried with the next one.
   */
  note(hostIds: readonly string[], signal: AbortSignal): void {
    const due = hostIds.filter((id) => id !== this.#options.hostId && !this.#removed.has(id));
    if (due.length === 0 || this.#work !== undefined || signal.aborted) return;
    this.#work = this.#removeAll(due, signal).finally(() => {
      this.#work = undefined;
    });
  }

  /** Resolves when no removal is in progress. */
  async settled(): Promise<void> {
    await this.#work;
  }

  async #removeAll(hostIds: readonly string[], signal: AbortSignal): Promise<void> {
    const { port, log, onRemoved } = this.#options;
    for (const previousHostId of hostIds) {
      if (isAborted(signal)) return;
      try {
        await port.remove(previousHostId, signal);
        this.#removed.add(previousHostId);
        onRemoved();
      } catch (error) {
        if (isAborted(signal)) return;
        log.warn({ err: error, previousHostId }, "cannot remove the sets of a deleted host");
      }
    }
  }
}
