import type { BlockStore } from "../../../src/host-adapters/volumes/block-store.ts";

export class ProcessKilled extends Error {}

/** A store whose process is killed right before or right after a changing call. */
export function createKillableStore(store: BlockStore, isLast: () => boolean): BlockStore {
  const changes = new Set<PropertyKey>([
    "create",
    "retag",
    "transfer",
    "grow",
    "shrink",
    "attach",
    "detach",
    "remove",
  ]);
  let isDead = false;
  const die = (property: PropertyKey): void => {
    isDead ||= changes.has(property) && isLast();
    if (isDead) throw new ProcessKilled();
  };
  return new Proxy(store, {
    get(target, property) {
      const call = Reflect.get(target, property) as (...args: unknown[]) => Promise<unknown>;
      return async (...args: unknown[]) => {
        die(property);
        const result = await call.apply(target, args);
        die(property);
        return result;
      };
    },
  });
}
