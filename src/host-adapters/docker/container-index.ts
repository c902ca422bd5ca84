/**
 * Docker's ids of the containers of each set, so that the list of one set names its containers.
 * Docker finds them by id in constant time. It has no index of labels or names, so it compares a
 * list by label with all containers of the machine.
 *
 * The index is complete for a set from a list of its containers on, while events of new containers
 * arrive. Each list of the whole host rebuilds it, which bounds its size and corrects lost events.
 */
export interface ContainerIndex {
  /** Undefined if the index may lack a container of the set. */
  idsOf(setId: string): readonly string[] | undefined;
  /** Call it before a list. The returned function receives the answer. */
  beginList(setId: string | undefined): (listed: readonly IndexedContainer[]) => void;
  noteCreated(container: IndexedContainer): void;
  noteRemoved(container: IndexedContainer): void;
  /** Enables the index while events arrive. */
  setLive(isLive: boolean): void;
}

interface IndexedContainer {
  setId: string;
  dockerId: string;
}

interface SetEntry {
  /** For each id, the number of the change that added it. */
  ids: Map<string, number>;
  isComplete: boolean;
}

export function createContainerIndex(): ContainerIndex {
  const entries = new Map<string, SetEntry>();
  let isLive = false;
  /** Incremented when events begin or end, so that an older list is ignored. */
  let session = 0;
  /** Numbers changes, so that a list does not drop a container that is newer than its answer. */
  let lastChange = 0;

  const entryOf = (setId: string): SetEntry => {
    const entry = entries.get(setId) ?? { ids: new Map<string, number>(), isComplete: false };
    entries.set(setId, entry);
    return entry;
  };
  const add = ({ setId, dockerId }: IndexedContainer) => {
    entryOf(setId).ids.set(dockerId, lastChange);
  };
  const dropOlder = ({ ids }: SetEntry, change: number) => {
    for (const [dockerId, addedAt] of ids) if (addedAt <= change) ids.delete(dockerId);
  };
  return {
    idsOf(setId) {
      const entry = entries.get(setId);
      return isLive && entry?.isComplete === true ? [...entry.ids.keys()] : undefined;
    },
    beginList(setId) {
      const begun = { change: lastChange, session };
      return (listed) => {
        if (!isLive || session !== begun.session) return;
        const replaced = setId === undefined ? [...entries.keys()] : [setId];
        for (const id of replaced) dropOlder(entryOf(id), begun.change);
        for (const container of listed) add(container);
        if (setId !== undefined) entryOf(setId).isComplete = true;
        else {
          for (const [id, entry] of entries) {
            entry.isComplete = true;
            if (entry.ids.size === 0) entries.delete(id);
          }
        }
      };
    },
    noteCreated(container) {
      lastChange += 1;
      if (isLive) add(container);
    },
    noteRemoved({ setId, dockerId }) {
      entries.get(setId)?.ids.delete(dockerId);
    },
    setLive(live) {
      isLive = live;
      session += 1;
      entries.clear();
    },
  };
}
