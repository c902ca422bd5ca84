import fc from "fast-check";
import { expect, it } from "vitest";
import { AppError } from "../../contracts/common/app-error.ts";
import { pageStart, pageStartNumber, toPage } from "./paging.ts";

it("continues after the cursor of a page, and gives none with the last page", () => {
  const rows = ["set_1", "set_2", "set_3"];
  const first = toPage(rows, 2, (row) => row);
  expect(first.items).toEqual(["set_1", "set_2"]);
  expect(pageStart({ cursor: first.nextCursor ?? "", limit: 2 })).toBe("set_2");
  expect(toPage(["set_3"], 2, (row) => row).nextCursor).toBeNull();
  expect(toPage(rows, 3, (row) => row).nextCursor).toBeNull();
  expect(toPage<string>([], 3, (row) => row)).toEqual({ items: [], nextCursor: null });
});

it("rejects each text that is not a cursor of a page", () => {
  fc.assert(
    fc.property(fc.string({ unit: "binary" }), (cursor) => {
      for (const read of [pageStart, pageStartNumber]) {
        try {
          expect(String(read({ cursor, limit: 1 }))).toMatch(/^[a-z0-9_-]{1,80}$/);
        } catch (error) {
          expect(error).toBeInstanceOf(AppError);
        }
      }
    }),
  );
});
