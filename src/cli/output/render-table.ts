import Table from "cli-table3";

const noBorders = {
  top: "",
  "top-mid": "",
  "top-left": "",
  "top-right": "",
  bottom: "",
  "bottom-mid": "",
  "bottom-left": "",
  "bottom-right": "",
  left: "",
  "left-mid": "",
  mid: "",
  "mid-mid": "",
  right: "",
  "right-mid": "",
  middle: "  ",
};

/**
 * Renders aligned columns with a heading and without borders, for `cut` and `awk`. No cell is
 * empty, and no line ends in spaces.
 */
export function renderTable(
  heads: readonly string[],
  rows: readonly (readonly string[])[],
): string {
  const table = new Table({
    head: [...heads],
    chars: noBorders,
    style: { "padding-left": 0, "padding-right": 0, head: [], border: [] },
  });
  for (const row of rows) table.push(row.map((cell) => (cell === "" ? "-" : cell)));
  return table
    .toString()
    .split("\n")
    .map((line) => line.trimEnd())
    .join("\n");
}
