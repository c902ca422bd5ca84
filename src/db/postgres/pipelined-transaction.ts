import type { Answer } from "./pooled-connection.ts";

/** The client that drizzle gets inside of a transaction. */
export interface TransactionClient {
  unsafe(query: string, parameters?: never[]): Answer;
  savepoint<T>(work: (client: TransactionClient) => Promise<T>): Promise<T>;
}

/** The part of a connection that a transaction uses. */
interface TransactionConnection {
  send(query: string, parameters?: never[]): Answer;
  readonly lost: AbortSignal;
}

/**
 * Runs a transaction on a connection of its own. `begin` travels with the first statements, and
 * `commit` with the last ones when `work` does not wait for their answers: each saves a round
 * trip. Statements that are sent after the commit are refused.
 *
 * A failed statement fails the transaction, even if `work` catches the error, unless a savepoint
 * contains it. Once the connection is lost nothing more is sent: on another connection a
 * statement would run outside of the transaction.
 *
 * Throws ConnectionLost, which says whether the commit was sent.
 */
export async function runTransaction<T>(
  connection: TransactionConnection,
  work: (client: TransactionClient) => Promise<T>,
): Promise<T> {
  const { lost } = connection;
  let hasBegun = false;
  let isCommitSent = false;
  let refusal: unknown;
  const lostError = (): ConnectionLost => new ConnectionLost({ hasBegun, isCommitSent }, refusal);
  const send = (query: string, parameters?: never[]): Answer => {
    if (lost.aborted) throw lostError();
    return connection.send(query, parameters);
  };
  const run = async (): Promise<T> => {
    const begun = send("begin");
    begun.then(
      () => (hasBegun = true),
      (error: unknown) => (refusal = error), // awaited below
    );
    const scope: Scope = { failure: undefined, isOver: false };
    try {
      const result = await runScope(send, work, scope);
      hasBegun = true;
      const commit = send("commit");
      isCommitSent = true;
      const [, { command }] = await Promise.all([begun, commit]);
      if (scope.failure) throw scope.failure.error;
      if (command !== "COMMIT") throw new Error(`the transaction ended with ${command}`);
      return result;
    } catch (error) {
      if (lost.aborted) throw lostError();
      await send("rollback").catch(() => undefined);
      throw error;
    }
  };
  return await new Promise((resolve, reject) => {
    const fail = (): void => reject(lostError());
    lost.addEventListener("abort", fail, { once: true });
    run()
      .then(resolve, reject)
      .finally(() => lost.removeEventListener("abort", fail));
  });
}

interface Scope {
  /** The error of its first failed statement. */
  failure: { error: unknown } | undefined;
  isOver: boolean;
}

/** Runs `work`, and fails when one of its statements has failed. */
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

/** The connection was lost before the transaction had ended. */
export class ConnectionLost extends Error {
  override readonly name = "ConnectionLost";
  /** The code of the driver for the same event. */
  readonly code = "CONNECTION_CLOSED";
  /** False if nothing of the transaction ran. It may then be retried. */
  readonly hasBegun: boolean;
  /** True if Postgres may have committed the transaction. The response is lost. */
  readonly isCommitSent: boolean;

  /** @param cause the error of `begin`, for example that the server refuses connections */
  constructor(state: { hasBegun: boolean; isCommitSent: boolean }, cause: unknown) {
    super("the connection was lost in a transaction", { cause });
    this.hasBegun = state.hasBegun;
    this.isCommitSent = state.isCommitSent;
  }
}
