import type { BlockStore } from "../../../src/host-adapters/volumes/block-store.ts";
import {
  createLoopStore,
  type LoopStoreOptions,
} from "../../../src/host-adapters/volumes/loop-store.ts";
import {
  createLvmStore,
  type LvmStoreOptions,
} from "../../../src/host-adapters/volumes/lvm-store.ts";

/** The options of a store of either backend, in a form that another process can parse. */
export type StoreOptions =
  | ({ backend: "loop" } & LoopStoreOptions)
  | ({ backend: "lvm" } & LvmStoreOptions);

export function openStore(options: StoreOptions): BlockStore {
  return options.backend === "loop" ? createLoopStore(options) : createLvmStore(options);
}
