import type postgres from "postgres";

/** Has Postgres parse and analyse a statement once a connection: with the driver's `unsafe` it does so every time, unless it is told. */
export const prepared = { prepare: true, simple: false };

/** What drizzle wants of a client inside of a transaction. */
export interface TransactionClient {
  unsafe(query: string, parameters?: never[]): ReturnType<postgres.Sql["unsafe"]>;
  savepoint<T>(work: (client: TransactionClient) => Promise<T>): Promise<T>;
}

/**
 * Runs a transaction on a client of one connection, to which nobody else sends anything meanwhile. Its `begin` goes with the first
 * statements instead of before them, and its `commit` with the last ones when `work` does not wait for their answers: each saves a round
 * trip. What is sent after that is refused.
 *
 * A statement that fails fails all, whoever caught its error, unless a savepoint is gone back to. Once the connection is lost all has
 * failed, and nothing is sent any more: on a new one it would be carried out by itself. (Nor would there be an answer to what is sent
 * between the driver's notice of an error and that of the end.)
 * Throws ConnectionLost.
 * @param lost is aborted when the connection is closed
 */
export async function runTransaction<T>(
  sql: postgres.Sql,
  lost: AbortSignal,
  work: (client: TransactionClient) => Promise<T>,
): Promise<T> {
  let hasBegun = false;
  let refusal: unknown;
  const scope: Scope = { failure: undefined, isOver: false };
  const send = (query: string, parameters?: never[]): ReturnType<postgres.Sql["unsafe"]> => {
    if (lost.aborted) throw new ConnectionLost(hasBegun, refusal);
    return sql.unsafe(query, parameters, prepared);
  };
  const run = async (): Promise<T> => {
    const begun = send("begin");
    begun.then(
      () => (hasBegun = true),
      (error: unknown) => (refusal = error), // it is waited for below
    );
    try {
      const result = await runScope(send, work, scope);
      hasBegun = true; // maybe: if the connection is lost from here on, it may be carried out
      const [, { command }] = await Promise.all([begun, send("commit")]);
      if (scope.failure) throw scope.failure.error;
      if (command !== "COMMIT") throw new Error(`the transaction ended with ${command}`);
      return result;
    } catch (error) {
      if (!lost.aborted) await send("rollback").catch(() => undefined);
      throw error;
    }
  };
  return await new Promise((resolve, reject) => {
    const fail = (): void => reject(new ConnectionLost(hasBegun, refusal));
    lost.addEventListener("abort", fail, { once: true });
    run()
      .then(resolve, reject)
      .finally(() => lost.removeEventListener("abort", fail));
  });
}

interface Scope {
  /** Of its first statement that failed. */
  failure: { error: unknown } | undefined;
  isOver: boolean;
}

/** Runs `work`, and fails when a statement of it has failed. */
async function runScope<T>(
  send: TransactionClient["unsafe"],
  work: (client: TransactionClient) => Promise<T>,
  scope: Scope,
  depth = 0,
): Promise<T> {
  const sendNoting: typeof send = (query, parameters) => {
    if (scope.isOver) throw new Error("the transaction is over: a statement came too late for it");
    const answer = send(query, parameters);
    answer.catch((error: unknown) => void (scope.failure ??= { error }));
    return answer;
  };
  const result = await work({
    unsafe: sendNoting,
    async savepoint(nested) {
      // Of equal names Postgres takes the newest.
      const name = `nested_${depth}`;
      void sendNoting(`savepoint ${name}`);
      const inner: Scope = { failure: undefined, isOver: false };
      try {
        return await runScope(send, nested, inner, depth + 1);
      } catch (error) {
        await send(`rollback to ${name}`);
        throw error;
      }
    },
  }).finally(() => (scope.isOver = true));
  if (scope.failure) throw scope.failure.error;
  return result;
}

/** The connection was closed before the transaction had ended. */
export class ConnectionLost extends Error {
  override readonly name = "ConnectionLost";
  /** In the words of the driver. */
  readonly code = "CONNECTION_CLOSED";
  /** False: nothing of it was begun, and it may be tried again. */
  readonly hasBegun: boolean;

  /** @param cause why the transaction was not begun, if that was said: that there is nobody to connect to, for example */
  constructor(hasBegun: boolean, cause: unknown) {
    super("the connection was lost in a transaction", { cause });
    this.hasBegun = hasBegun;
  }
}
