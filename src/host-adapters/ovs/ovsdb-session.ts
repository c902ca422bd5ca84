import { z } from "zod";
import { JsonObjects } from "./json-objects.ts";
import { connectionError, type DaemonConnection, withConnection } from "./daemon-connection.ts";

const databaseName = "Open_vSwitch";
/** Ten thousand ports with their external ids. */
const messageBytesMax = 16 * 2 ** 20;

const messageSchema = z.union([
  z.object({ method: z.string(), params: z.array(z.unknown()), id: z.unknown() }),
  z.object({ id: z.unknown(), result: z.unknown(), error: z.unknown() }),
]);
const resultsSchema = z.array(
  z
    .object({
      count: z.number().optional(),
      rows: z.array(z.unknown()).optional(),
      error: z.string().optional(),
      details: z.string().optional(),
    })
    .nullable(),
);
const appliedSchema = z.object({
  Open_vSwitch: z
    .record(
      z.string(),
      z.object({ new: z.object({ cur_cfg: z.number().optional() }).nullish() }).nullable(),
    )
    .optional(),
});
const generationSchema = z.object({ next_cfg: z.number() });

/** An operation of RFC 7047, section 5.2. */
export type OvsdbOperation = Readonly<Record<string, unknown>> & { op: string };
export interface OvsdbResult {
  /** How many rows an update or a mutation has changed. */
  count: number;
  /** The rows of a selection. */
  rows: readonly unknown[];
}

/** Runs `work` with a connection to ovsdb-server: see `withConnection`. */
export async function withOvsdb<T>(
  { socketPath, ...options }: { socketPath: string; timeoutMs: number; signal: AbortSignal },
  work: (session: OvsdbSession) => Promise<T>,
): Promise<T> {
  return withConnection({ socketPath, daemon: "ovsdb-server", ...options }, (connection) =>
    work(new OvsdbSession(connection)),
  );
}

/**
 * A session with ovsdb-server by JSON-RPC (RFC 7047), one call at a time. The server performs each
 * transaction completely or not at all.
 *
 * The switch daemon follows the database. To learn when a change is in force, a client increments
 * `next_cfg` with it. The daemon sets `cur_cfg` to that number or a later one: see `apply`.
 */
export class OvsdbSession {
  readonly #connection: DaemonConnection;
  readonly #objects = new JsonObjects(messageBytesMax);
  #received: string[] = [];
  #lastId = 0;
  /** The last change that the daemon has applied. Undefined until the session follows it. */
  #applied: number | undefined;

  constructor(connection: DaemonConnection) {
    this.#connection = connection;
  }

  /** Returns the result of each operation. If one of them fails, rejects and changes nothing. */
  async transact(operations: readonly OvsdbOperation[]): Promise<OvsdbResult[]> {
    const results = resultsSchema.parse(
      await this.#call("transact", [databaseName, ...operations]),
    );
    const failed = results.find((result) => result?.error !== undefined);
    if (failed)
      throw connectionError(
        `ovsdb-server refused an operation: ${failed.error}: ${failed.details ?? "no details"}.`,
      );
    return results.map((result) => ({ count: result?.count ?? 0, rows: result?.rows ?? [] }));
  }

  /** As `transact`, and resolves when the switch daemon has applied the change. */
  async apply(operations: readonly OvsdbOperation[]): Promise<OvsdbResult[]> {
    const results = await this.transact([
      ...operations,
      { op: "mutate", table: databaseName, where: [], mutations: [["next_cfg", "+=", 1]] },
      { op: "select", table: databaseName, where: [], columns: ["next_cfg"] },
    ]);
    const { next_cfg: generation } = generationSchema.parse(results.at(-1)?.rows[0]);
    this.#connection.awaited = "ovs-vswitchd";
    if (this.#applied === undefined) {
      this.#applied = 0;
      const request = { [databaseName]: { columns: ["cur_cfg"] } };
      this.#noteApplied(await this.#call("monitor", [databaseName, "applied", request]));
    }
    while (this.#applied < generation) this.#notice(await this.#receive());
    this.#connection.awaited = "ovsdb-server";
    return results.slice(0, -2);
  }

  async #call(method: string, params: readonly unknown[]): Promise<unknown> {
    this.#lastId += 1;
    const id = this.#lastId;
    this.#connection.write(JSON.stringify({ id, method, params }));
    for (;;) {
      const message = await this.#receive();
      if ("method" in message) this.#notice(message);
      else if (message.id === id) {
        if (message.error === null) return message.result;
        throw connectionError(`ovsdb-server refused a call: ${JSON.stringify(message.error)}.`);
      }
    }
  }

  #notice(message: z.output<typeof messageSchema>): void {
    if (!("method" in message)) return;
    const { method, params, id } = message;
    if (method === "echo")
      this.#connection.write(JSON.stringify({ id, result: params, error: null }));
    else if (method === "update") this.#noteApplied(params[1]);
  }

  #noteApplied(updates: unknown): void {
    for (const update of Object.values(appliedSchema.parse(updates).Open_vSwitch ?? {}))
      this.#applied = update?.new?.cur_cfg ?? this.#applied;
  }

  async #receive() {
    while (this.#received.length === 0)
      this.#received = this.#objects.push(await this.#connection.read());
    return messageSchema.parse(JSON.parse(this.#received.shift() ?? ""));
  }
}
