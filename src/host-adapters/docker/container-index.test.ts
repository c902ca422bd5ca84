import { expect, it } from "vitest";
import { createContainerIndex } from "./container-index.ts";

function liveIndex() {
  const index = createContainerIndex();
  index.setLive(true);
  return index;
}

it("knows a set after a list of its containers, and follows changes", () => {
  const index = liveIndex();
  index.noteCreated({ setId: "s", dockerId: "old" });
  expect(index.idsOf("s")).toBeUndefined();
  index.beginList("s")([{ setId: "s", dockerId: "a" }]);
  expect(index.idsOf("s")).toEqual(["a"]);
  index.noteCreated({ setId: "s", dockerId: "b" });
  index.noteRemoved({ setId: "s", dockerId: "a" });
  expect(index.idsOf("s")).toEqual(["b"]);
});

it("knows that a set has no containers", () => {
  const index = liveIndex();
  index.beginList("s")([]);
  expect(index.idsOf("s")).toEqual([]);
});

it("retains a container that is newer than the answer of a list", () => {
  const index = liveIndex();
  for (const setId of ["s", undefined]) {
    const end = index.beginList(setId);
    index.noteCreated({ setId: "s", dockerId: `new-${setId}` });
    end([]);
    expect(index.idsOf("s")).toEqual([`new-${setId}`]);
  }
});

it("forgets sets without containers at each list of the whole host", () => {
  const index = liveIndex();
  index.beginList("gone")([{ setId: "gone", dockerId: "a" }]);
  index.beginList(undefined)([{ setId: "s", dockerId: "b" }]);
  expect(index.idsOf("gone")).toBeUndefined();
  expect(index.idsOf("s")).toEqual(["b"]);
});

it("knows nothing without events, and ignores lists that began before them", () => {
  const index = createContainerIndex();
  const early = index.beginList("s");
  index.setLive(true);
  early([]);
  expect(index.idsOf("s")).toBeUndefined();
  index.beginList("s")([]);
  index.setLive(false);
  expect(index.idsOf("s")).toBeUndefined();
});
