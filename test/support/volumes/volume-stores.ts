import type { BlockStore } from "../../../src/agent/adapters/volume/block-store.ts";
import {
  createLoopStore,
  type LoopStoreOptions,
} from "../../../src/agent/adapters/volume/loop-store.ts";
import {
  createLvmStore,
  type LvmStoreOptions,
} from "../../../src/agent/adapters/volume/lvm-store.ts";

/** A store of either backend, as it is named to another process. */
export type StoreOptions =
  | ({ backend: "loop" } & LoopStoreOptions)
  | ({ backend: "lvm" } & LvmStoreOptions);

export function openStore(options: StoreOptions): BlockStore {
  return options.backend === "loop" ? createLoopStore(options) : createLvmStore(options);
}
