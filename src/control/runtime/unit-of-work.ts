import type { EmittedEvent } from "../../contracts/api/event-texts.ts";
import type { JobRequest } from "../../contracts/jobs.ts";
import type { Db, Queryable } from "../../db/postgres/open-postgres.ts";
import { insertEffects } from "../../db/queries/events/write-events.ts";
import { type TxOptions, withTx } from "../../db/transaction.ts";
import type { CommittedEffects, ControlContext, SignalChannel, UnitOfWork } from "./context.ts";

/**
 * Runs `work` in a transaction, and dispatches its effects after the commit. Inside another unit of
 * work, such as a request with an Idempotency-Key, it is a savepoint, and the outer commit
 * dispatches its effects.
 *
 * `work` may run several times (see withTx). The effects of failed attempts are dropped. Throws the
 * errors of `work`.
 */
export async function unitOfWork<T>(
  ctx: ControlContext,
  work: (tx: UnitOfWork) => Promise<T>,
  options: Pick<TxOptions, "retriesMax"> = {},
): Promise<T> {
  if (ctx.unit) return joinUnit(ctx, ctx.unit, work, options);
  let unit: TransactionUnit | undefined;
  const result = await withTx(
    ctx.db,
    (tx) => {
      unit = new TransactionUnit(tx);
      return work(unit);
    },
    { ...options, sendLast: () => unit?.sendLast() ?? [] },
  );
  if (unit) await dispatchEffects(ctx, await unit.committed());
  return result;
}

async function joinUnit<T>(
  ctx: ControlContext,
  outer: UnitOfWork,
  work: (tx: UnitOfWork) => Promise<T>,
  options: Pick<TxOptions, "retriesMax">,
): Promise<T> {
  let unit: TransactionUnit | undefined;
  const result = await withTx(
    ctx.db,
    async (tx) => {
      unit = new TransactionUnit(tx);
      const result = await work(unit);
      await unit.sendRegistered();
      return result;
    },
    options,
  );
  unit?.passOn(outer);
  return result;
}

/**
 * Enqueues the jobs and publishes the signals of a committed transaction. Inside a unit of work,
 * the outer commit does both. Never throws.
 */
export async function dispatchEffects(
  ctx: Pick<ControlContext, "jobQueue" | "signals" | "unit">,
  effects: CommittedEffects,
): Promise<void> {
  if (ctx.unit) return ctx.unit.dispatchAfterCommit(effects);
  const { jobs, outboxIds } = effects;
  const channels = [...effects.signals];
  await Promise.all([
    jobs.length === 0 ? undefined : ctx.jobQueue.enqueue(jobs, outboxIds),
    channels.length === 0 ? undefined : ctx.signals.publish(channels),
  ]);
}

class TransactionUnit implements UnitOfWork {
  readonly select: Queryable["select"];
  readonly update: Queryable["update"];
  readonly delete: Queryable["delete"];
  readonly execute: Queryable["execute"];
  readonly database: Db;
  readonly #tx: Queryable;
  readonly #jobs: JobRequest[] = [];
  readonly #events: EmittedEvent[] = [];
  readonly #channels = new Set<SignalChannel>();
  readonly #registered: (() => Promise<unknown>)[] = [];
  readonly #stored: { job: JobRequest; outboxId: number | undefined }[] = [];
  #outboxIds: Promise<number[]> = Promise.resolve([]);

  constructor(tx: Queryable) {
    this.#tx = tx;
    // drizzle's transactions are databases: their transactions are savepoints
    this.database = tx as Db;
    this.select = tx.select.bind<Queryable["select"]>(tx);
    this.update = tx.update.bind(tx);
    this.delete = tx.delete.bind(tx);
    this.execute = tx.execute.bind(tx);
  }

  enqueue(...jobs: readonly JobRequest[]): void {
    this.#jobs.push(...jobs);
  }

  signal(...channels: readonly SignalChannel[]): void {
    for (const channel of channels) this.#channels.add(channel);
  }

  emit(...events: readonly EmittedEvent[]): void {
    for (const event of events) this.#events.push(event);
  }

  dispatchAfterCommit({ jobs, outboxIds, signals }: CommittedEffects): void {
    jobs.forEach((job, position) => this.#stored.push({ job, outboxId: outboxIds[position] }));
    this.signal(...signals);
  }

  sendWithCommit<T>(send: () => Promise<T>): Promise<T> {
    const answered = new Promise<T>((resolve, reject) => {
      this.#registered.push(() => {
        const answer = send();
        answer.then(resolve, reject);
        return answer;
      });
    });
    answered.catch(() => undefined); // the transaction fails with it
    return answered;
  }

  /** Starts the registered statements, then the statement that writes jobs and events. */
  sendLast(): Promise<unknown>[] {
    const answers = this.#registered.map((send) => send());
    if (this.#jobs.length + this.#events.length > 0) {
      this.#outboxIds = insertEffects(this.#tx, { jobs: this.#jobs, events: this.#events });
      answers.push(this.#outboxIds);
    }
    return answers;
  }

  /** Inside another unit: the registered statements belong to the savepoint. */
  async sendRegistered(): Promise<void> {
    for (const send of this.#registered) await send();
  }

  passOn(outer: UnitOfWork): void {
    outer.enqueue(...this.#jobs);
    outer.emit(...this.#events);
    outer.dispatchAfterCommit(this.#storedEffects());
  }

  async committed(): Promise<CommittedEffects> {
    if (this.#events.length > 0 || this.#channels.size > 0) this.#channels.add("events");
    const { jobs, outboxIds, signals } = this.#storedEffects();
    return {
      jobs: [...jobs, ...this.#jobs],
      outboxIds: [...outboxIds, ...(await this.#outboxIds)],
      signals,
    };
  }

  #storedEffects(): CommittedEffects {
    return {
      jobs: this.#stored.map(({ job }) => job),
      outboxIds: this.#stored.flatMap(({ outboxId }) => outboxId ?? []),
      signals: this.#channels,
    };
  }
}
